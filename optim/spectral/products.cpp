#include "optim/spectral/products.h"

#include <algorithm>
#include <array>

#include "core/base/index.h"
#include "optim/spectral/elementwise.h"

namespace muonp::optim::spectral {

using core::at;
using core::MatrixView;
using core::Op;
using core::StridedBatch;
using core::SymmetricForm;
using core::Tensor;

namespace {

// Of one sharer: the rows at which its two panels begin and end.
std::array<std::array<std::int64_t, 2>, 2> panels_of(std::int64_t n, int sharers, int sharer) {
  const std::int64_t parts = 2 * std::int64_t{sharers}, low = sharer, high = parts - 1 - sharer;
  return {{{part_begin(n, parts, low), part_begin(n, parts, low + 1)},
           {part_begin(n, parts, high), part_begin(n, parts, high + 1)}}};
}

std::int64_t panel_elements(std::int64_t n, int sharers, int sharer) {
  std::int64_t elements = 0;
  for (const auto& [begin, end] : panels_of(n, sharers, sharer)) elements += (end - begin) * end;
  return elements;
}

std::int64_t all_panels(std::int64_t n, int sharers) {
  std::int64_t elements = 0;
  for (int i = 0; i < sharers; ++i) elements += panel_elements(n, sharers, i);
  return elements;
}

}  // namespace

double sum_over(core::Device& device, Sharers& sharers, double value) {
  constexpr auto kBytes = std::int64_t{sizeof(double)};
  core::Queue& queue = device.queue();
  std::vector<Tensor> sends, receives;
  for (int i = 0; i < sharers.size(); ++i) {
    sends.push_back(i == 0 ? Tensor::empty(device, {kBytes}, core::Dtype::uint8, core::Category::exchange) : sends.front());
    receives.push_back(Tensor::empty(device, {kBytes}, core::Dtype::uint8, core::Category::exchange));
  }
  queue.write(sends.front().raw(), &value, kBytes);
  sharers.exchange(sends, receives);
  double sum = 0;
  for (int i = 0; i < sharers.size(); ++i) {
    double one = value;
    if (i != sharers.rank()) queue.read(&one, receives[at(i)].raw(), kBytes);
    sum += one;
  }
  return sum;
}

Products::Products(core::Device& device, std::int64_t count, std::int64_t rows, std::int64_t cols, Sharers* sharers)
    : device_(device),
      queue_(device.queue()),
      count_(count),
      n_(std::min(rows, cols)),
      wide_(rows < cols),
      sharers_(sharers) {
  if (sharers_ == nullptr) return;
  MUONP_ASSERT(count == 1, "{} matrices shared at once", count);
  const auto room = [&](int sharer) {
    return Tensor::empty(device_, {panel_elements(n_, sharers_->size(), sharer)}, core::Dtype::float32,
                         core::Category::exchange);
  };
  for (int i = 0; i < sharers_->size(); ++i) {
    theirs_.push_back(room(i));
    mine_.push_back(room(sharers_->rank()));
  }
}

std::int64_t Products::shared_bytes(std::int64_t side, int sharers, int sharer) {
  return 4 * (all_panels(side, sharers) + sharers * panel_elements(side, sharers, sharer));
}

// Each product's panels go from every sharer to all others; those of a Gram matrix are summed before, so that every sharer
// sends each other one its panels.
SharedWork Products::shared_work(std::int64_t side, int sharers, int products, int grams, int numbers) {
  const std::int64_t others = sharers - 1;
  return {products + 2 * grams + numbers,
          4 * others * all_panels(side, sharers) * (products + 2 * grams) + bytes_of_sums(sharers, numbers)};
}

// f(panel, where it lies in `packed`)
template <class F>
void Products::each_panel(int sharer, const Tensor& packed, const F& f) const {
  float* next = packed.data<float>();
  for (const auto& [begin, end] : panels_of(n_, sharers_->size(), sharer)) {
    f(Panel{begin, end}, MatrixView(next, end - begin, end, end));
    next += (end - begin) * end;
  }
}

template <class F>
void Products::compute_panels(const F& f) {
  each_panel(sharers_->rank(), mine_[at(sharers_->rank())], [&](Panel panel, const MatrixView& out) {
    f(panel, out);
    flops_ += core::gemm_flops(panel.end - panel.begin, panel.end, n_);
  });
}

void Products::symmetric(float alpha, const StridedBatch& a, const StridedBatch& b, const StridedBatch& c,
                         std::span<const SymmetricForm> forms) {
  if (sharers_ == nullptr) {
    core::symmetric_product(queue_, count_, alpha, a, b, c, forms);
    flops_ += core::symmetric_flops(n_, n_, queue_.kind(), count_);
    return;
  }
  compute_panels([&](Panel p, const MatrixView& out) {
    core::gemm(queue_, Op::none, Op::none, alpha, a.first.block(p.begin, 0, p.end - p.begin, n_),
               b.first.block(0, 0, n_, p.end), 0, out);
  });
  gather_panels(c.first, forms);
}

// (A·B)ᵀ is B·A.
void Products::symmetrized(const StridedBatch& a, const StridedBatch& b, const StridedBatch& c) {
  if (sharers_ == nullptr) {
    core::symmetrized_product(queue_, count_, 1, a, b, c);
    flops_ += static_cast<double>(count_) * core::gemm_flops(n_, n_, n_);
    return;
  }
  compute_panels([&](Panel p, const MatrixView& out) {
    const std::int64_t rows = p.end - p.begin;
    core::gemm(queue_, Op::none, Op::none, 0.5f, a.first.block(p.begin, 0, rows, n_), b.first.block(0, 0, n_, p.end), 0,
               out);
    core::gemm(queue_, Op::none, Op::none, 0.5f, b.first.block(p.begin, 0, rows, n_), a.first.block(0, 0, n_, p.end), 1,
               out);
    flops_ += core::gemm_flops(rows, p.end, n_);
  });
  gather_panels(c.first, {});
}

void Products::gram(const StridedBatch& y, const StridedBatch& c, std::span<const SymmetricForm> forms) {
  const std::int64_t length = wide_ ? y.first.cols : y.first.rows;
  const Op side = wide_ ? Op::none : Op::transpose;
  core::gram(queue_, count_, side, 1, y, c, sharers_ == nullptr ? forms : std::span<const SymmetricForm>{});
  flops_ += core::symmetric_flops(n_, length, queue_.kind(), count_);
  if (sharers_ == nullptr) return;
  sum_panels(c.first);
  gather_panels(c.first, forms);
}

// Mine of the sum over sharers, in their order.
void Products::sum_panels(const MatrixView& c) {
  const int me = sharers_->rank();
  for (int i = 0; i < sharers_->size(); ++i)
    each_panel(i, theirs_[at(i)], [&](Panel p, const MatrixView& packed) {
      copy_scaled(queue_, c.block(p.begin, 0, p.end - p.begin, p.end), 1, packed);
    });
  sharers_->exchange(theirs_, mine_);
  const Tensor& sum = mine_[at(me)];
  for (int i = 0; i < sharers_->size(); ++i) {
    const Tensor& next = i == me ? theirs_[at(me)] : mine_[at(i)];
    if (i == 0) {
      sum.copy_from(queue_, next);
      continue;
    }
    std::vector<MatrixView> terms;
    each_panel(me, next, [&](Panel, const MatrixView& view) { terms.push_back(view); });
    std::size_t k = 0;
    each_panel(me, sum, [&](Panel, const MatrixView& view) { affine(queue_, 0, 1, view, 1, terms[k++]); });
  }
}

void Products::gather_panels(const MatrixView& c, std::span<const SymmetricForm> forms) {
  const int me = sharers_->rank();
  sharers_->exchange(std::vector<Tensor>(at(sharers_->size()), mine_[at(me)]), theirs_);
  for (int i = 0; i < sharers_->size(); ++i)
    each_panel(i, i == me ? mine_[at(me)] : theirs_[at(i)], [&](Panel p, const MatrixView& packed) {
      copy_scaled(queue_, packed, 1, c.block(p.begin, 0, p.end - p.begin, p.end));
    });
  const SymmetricForm both{.out = c};
  core::symmetric_forms(queue_, c, forms.empty() ? std::span(&both, 1) : forms);
}

void Products::by_small(float alpha, const StridedBatch& x, const StridedBatch& small, float beta, const StridedBatch& out) {
  core::gemm_batched(queue_, count_, Op::none, Op::none, alpha, wide_ ? small : x, wide_ ? x : small, beta, out);
  flops_ += static_cast<double>(count_) * core::gemm_flops(x.first.rows, x.first.cols, n_);
}

}  // namespace muonp::optim::spectral
