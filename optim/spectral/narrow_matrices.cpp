#include "optim/spectral/narrow_matrices.h"

#include <algorithm>
#include <cmath>

#include "optim/spectral/elementwise.h"

namespace muonp::optim::spectral {

using core::StridedBatch;
using core::SymmetricForm;
using core::SymmetricTerm;

NarrowMatrices::NarrowMatrices(core::Device& device, core::Dtype dtype, Scaling scaling, std::int64_t count,
                               std::int64_t elements, const StridedBatch& g, const StridedBatch& z, Products& products)
    : queue_(device.queue()),
      products_(products),
      scaling_(scaling),
      count_(count),
      elements_(elements),
      g_(g),
      z_(z),
      n_(products.side()),
      scratch_(device, dtype),
      wide_scratch_(device, core::Dtype::float32),
      product_(wide_scratch_.matrices(count, n_, n_)),
      smalls_([this] { return scratch_.matrices(count_, n_, n_); }),
      longs_([this] { return scratch_.matrices(count_, g_.first.rows, g_.first.cols); }),
      scales_(device, count, products.sharers()) {}

std::int64_t NarrowMatrices::bytes(std::int64_t side, std::int64_t rows, std::int64_t cols, core::Dtype dtype, int smalls,
                                   int longs) {
  return Scratch::bytes(side, side, core::Dtype::float32) + smalls * Scratch::bytes(side, side, dtype) +
         longs * Scratch::bytes(rows, cols, dtype);
}

// Until the bound is known, A in 16 bits may leave their range: Y gets entries around 1, and A its unit in float32.
std::pair<NarrowMatrices::Long, NarrowMatrices::Small> NarrowMatrices::start() {
  Long y = longs_.take();
  scales_.find_factor(g_);
  if (scaling_ == Scaling::by_norm) {
    scales_.copy_by_norm(g_, *y);
    return {y, gram(y)};
  }
  const auto size = static_cast<double>(elements_);
  const double enlarge = std::min(0x1p15, std::exp2(std::round(0.5 * std::log2(size))));
  scales_.copy_by_factor(g_, enlarge, *y);
  gram_into(y, {});
  Small a = smalls_.take();
  scales_.divide_gram(product_, enlarge, *a);
  products_.symmetric(1, *a, *a, product_);
  scales_.find_scale(*a, product_);
  scales_.copy_by_scale(g_, *y);
  product_is_square_ = true;
  return {y, a};
}

void NarrowMatrices::multiply(const Small& a, const Small& b, std::span<const NarrowForm<Small>> forms,
                              std::span<const Small> outs) {
  std::vector<SymmetricForm> made;
  const auto term = [](const Small& matrix, double factor) {
    return matrix ? SymmetricTerm{.matrix = matrix->first, .factor = static_cast<float>(factor)} : SymmetricTerm{};
  };
  for (std::size_t i = 0; i < forms.size(); ++i)
    made.push_back({.out = outs[i]->first,
                    .product = static_cast<float>(forms[i].product),
                    .identity = static_cast<float>(forms[i].identity),
                    .first = term(forms[i].first, forms[i].first_factor),
                    .second = term(forms[i].second, forms[i].second_factor)});
  if (product_is_square_) {
    product_is_square_ = false;
    return core::symmetric_forms(queue_, count_, product_, made);
  }
  products_.symmetric(1, *a, *b, product_, made);
}

void NarrowMatrices::gram_into(const Long& y, std::span<const SymmetricForm> forms) { products_.gram(*y, product_, forms); }

NarrowMatrices::Small NarrowMatrices::gram(const Long& y) {
  Small a = smalls_.take();
  const SymmetricForm form{.out = a->first};
  gram_into(y, {&form, 1});
  return a;
}

NarrowMatrices::Long NarrowMatrices::multiply_long(const Long& x, const Small& small, double identity) {
  Long out = longs_.take();
  const core::MatrixView& view = x->first;
  queue_.copy(out->first.data, view.data, count_ * view.rows * view.stride * core::size_of(view.dtype));
  long_product(x, small, identity, *out);
  return out;
}

void NarrowMatrices::finish(const Long& x, const Small& small, double identity) {
  widen(queue_, count_, *x, z_);
  long_product(x, small, identity, z_);
}

// out, which holds X, becomes identity·X + X·small.
void NarrowMatrices::long_product(const Long& x, const Small& small, double identity, const StridedBatch& out) {
  products_.by_small(1, *x, *small, static_cast<float>(identity), out);
}

}  // namespace muonp::optim::spectral
