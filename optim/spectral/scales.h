// The numbers that a recurrence on a GPU has of each matrix of a batch. They stay in the device's memory, where kernels make
// and read them: no matrix waits for the host, which reads them once, when all is done.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/blas.h"
#include "optim/spectral/sharers.h"

namespace muonp::optim::spectral {

// Room for `count` doubles on the device.
core::Tensor numbers(core::Device& device, std::int64_t count);
// sums[i] = Σ x² of matrix i, or Σ x·y of two, float32 and of one shape, in double precision; x ← by[i]·x. `sums` and `by`:
// on the device.
void sums_of_squares(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, double* sums);
void inner_products(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, const core::StridedBatch& y,
                    double* sums);
void multiply_by(core::Queue& queue, std::int64_t count, const core::StridedBatch& x, const double* by);

// Of `count` matrices G, one double each. A matrix without a norm, because it is zero or has an entry that is not finite,
// has scale 1 and gain 0 or NaN, so that it disturbs no other.
class Scales {
 public:
  // sharers: of one matrix of which G is a part; null: none.
  Scales(core::Device& device, std::int64_t count, Sharers* sharers = nullptr);

  // G·factor has a Frobenius norm in [1/2, 1), which is the scale unless find_scale() finds another.
  void find_factor(const core::StridedBatch& g);
  // to = factor·by·G, in the dtype of `to`.
  void copy_by_factor(const core::StridedBatch& g, double by, const core::StridedBatch& to);
  // to = G/‖G‖_F.
  void copy_by_norm(const core::StridedBatch& g, const core::StridedBatch& to);
  // The Gram matrix of G·factor·by, in float32, into `to`, divided by a unit such that its largest eigenvalue is between
  // n^-1/4 and n^1/4: ‖A‖_F/√n <= λ_max <= ‖A‖_F.
  void divide_gram(const core::StridedBatch& gram, double by, const core::StridedBatch& to);
  // From A and A², of which the lower triangle is read and which is float32, a bound on the largest eigenvalue of A
  // (bound.h); A and A² are divided by it and its square. G·factor/scale has no singular value above 1.
  // How exactly products of A are known to be is told by its dtype.
  void find_scale(const core::StridedBatch& a, const core::StridedBatch& squared);
  // to = G·factor/scale, in the dtype of `to`.
  void copy_by_scale(const core::StridedBatch& g, const core::StridedBatch& to);
  // x ← (scale/factor)ᵖ·x, float32; over the scale for an x by which G·factor is to be multiplied.
  void gain(double p, const core::StridedBatch& x, bool over_scale = false);
  // Takes ‖Z‖_F² of each result.
  void measure(const core::StridedBatch& z);

  struct OfMatrix {
    double norm = 0;    // ‖G‖_F; NaN or infinite where an entry is
    double scale = 0;   // that G was divided by; 0 for a zero matrix
    double result = 0;  // ‖Z‖_F²
  };
  std::vector<OfMatrix> read() const;                                                       // after measure()
  core::Tensor results() const { return memory_.flat(2 * kResults * count_, 2 * count_); }  // the results, on the device

 private:
  static constexpr std::int64_t kResults = 4;  // which of the arrays

  double* array(std::int64_t i) const { return static_cast<double*>(memory_.raw()) + i * count_; }

  void sum_squares(const core::StridedBatch& x, double* sums);

  core::Queue& queue_;
  std::int64_t count_;
  Sharers* sharers_;
  core::Tensor memory_;
  double *squares_, *factor_, *unit_, *scale_, *result_, *sum_, *by_, *by_square_, *moments_;  // by_: of the next pass
};

}  // namespace muonp::optim::spectral
