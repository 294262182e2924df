// NarrowSteps with matrices: `count` of one shape, each of which takes each step together with the others. Their scales stay
// on the device (scales.h). Products are float32 until their forms are made, so that what is stored is rounded once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/device/symmetric.h"
#include "optim/spectral/narrow_steps.h"
#include "optim/spectral/pool.h"
#include "optim/spectral/products.h"
#include "optim/spectral/scales.h"
#include "optim/spectral/scratch.h"

namespace muonp::optim::spectral {

// What G is divided by: a bound on σ_max from the moments of its Gram matrix, which costs no product, or its Frobenius norm.
enum class Scaling : std::uint8_t { by_bound, by_norm };

class NarrowMatrices {
 public:
  using Small = std::shared_ptr<core::StridedBatch>;
  using Long = std::shared_ptr<core::StridedBatch>;

  // g, z: float32; what the products have of it. `elements`: of one matrix, whole.
  NarrowMatrices(core::Device& device, core::Dtype dtype, Scaling scaling, std::int64_t count, std::int64_t elements,
                 const core::StridedBatch& g, const core::StridedBatch& z, Products& products);

  std::pair<Long, Small> start();
  template <std::size_t N>
  std::array<Small, N> multiply(const Small& a, const Small& b, const NarrowForm<Small> (&forms)[N]) {
    std::array<Small, N> outs;
    for (Small& out : outs) out = smalls_.take();
    multiply(a, b, forms, outs);
    return outs;
  }
  Small gram(const Long& y);
  void begin_step(const DesignStep&, const Small&) {}
  Long multiply_long(const Long& x, const Small& small, double identity);
  void finish(const Long& x, const Small& small, double identity);

  // Every z ← scaleᵖ·z. Then what the host wants to know of each matrix.
  Scales& scales() { return scales_; }
  // Bytes of scratch memory with so many matrices of each kind alive at once: [side, side] and [rows, cols].
  static std::int64_t bytes(std::int64_t side, std::int64_t rows, std::int64_t cols, core::Dtype dtype, int smalls,
                            int longs);

 private:
  void multiply(const Small& a, const Small& b, std::span<const NarrowForm<Small>> forms, std::span<const Small> outs);
  void gram_into(const Long& y, std::span<const core::SymmetricForm> forms);
  void long_product(const Long& x, const Small& small, double identity, const core::StridedBatch& out);

  core::Queue& queue_;
  Products& products_;
  Scaling scaling_;
  std::int64_t count_, elements_;
  core::StridedBatch g_, z_;
  std::int64_t n_;
  Scratch scratch_, wide_scratch_;
  core::StridedBatch product_;      // float32
  bool product_is_square_ = false;  // A·A is in it already
  Pool<core::StridedBatch> smalls_, longs_;
  Scales scales_;
};

}  // namespace muonp::optim::spectral
