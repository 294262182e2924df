// The products of a recurrence, of matrices that a rank has whole or of its share of one. A product of two symmetric
// matrices that commute is half work: its rows are cut into 2g panels, of which each needs the columns up to its last row,
// and sharer i computes panels i and 2g − 1 − i, which together are the same for all. Then each has all panels from the
// others.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/device/symmetric.h"
#include "optim/spectral/sharers.h"

namespace muonp::optim::spectral {

class Products {
 public:
  // Of `count` matrices [rows, cols] together; of one where there are sharers, and then long matrices are this rank's part.
  Products(core::Device& device, std::int64_t count, std::int64_t rows, std::int64_t cols, Sharers* sharers = nullptr);

  std::int64_t side() const { return n_; }  // the shorter one
  Sharers* sharers() const { return sharers_; }

  // As core::symmetric_product(), core::symmetrized_product() and core::gram() of the smaller side; C is float32.
  void symmetric(float alpha, const core::StridedBatch& a, const core::StridedBatch& b, const core::StridedBatch& c,
                 std::span<const core::SymmetricForm> forms = {});
  void symmetrized(const core::StridedBatch& a, const core::StridedBatch& b, const core::StridedBatch& c);
  void gram(const core::StridedBatch& y, const core::StridedBatch& c, std::span<const core::SymmetricForm> forms = {});
  // out = alpha·(X·S) for tall or square matrices, alpha·(S·X) for wide ones, + beta·out.
  void by_small(float alpha, const core::StridedBatch& x, const core::StridedBatch& small, float beta,
                const core::StridedBatch& out);

  double flops() const { return flops_; }  // as executed here, of all matrices

  // Bytes that sharers need beside what a whole matrix takes.
  static std::int64_t shared_bytes(std::int64_t side, int sharers, int sharer);
  // Of one matrix's run: products on the small side, Gram matrices, and numbers that are summed.
  static SharedWork shared_work(std::int64_t side, int sharers, int products, int grams, int numbers);

 private:
  struct Panel {
    std::int64_t begin, end;  // rows; columns [0, end)
  };
  template <class F>
  void each_panel(int sharer, const core::Tensor& packed, const F& f) const;
  template <class F>
  void compute_panels(const F& f);
  void sum_panels(const core::MatrixView& c);
  void gather_panels(const core::MatrixView& c, std::span<const core::SymmetricForm> forms);

  core::Device& device_;
  core::Queue& queue_;
  std::int64_t count_, n_;
  bool wide_;
  Sharers* sharers_;
  std::vector<core::Tensor> theirs_;  // by sharer: its panels
  std::vector<core::Tensor> mine_;    // by sharer: my panels, as far as that one has them; my own entry is their sum
  double flops_ = 0;
};

}  // namespace muonp::optim::spectral
