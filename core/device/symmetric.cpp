#include "core/device/symmetric.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/base/index.h"
#include "core/device/cpu/tasks.h"
#include "core/device/cuda/symmetric.h"
#include "core/device/for_each.h"

namespace muonp::core {
namespace {

struct Block {  // rows [row, row + rows) and columns [col, col + cols) of the result
  std::int64_t row, col, rows, cols;
  bool diagonal() const { return row == col; }
  std::int64_t area() const { return rows * cols; }
};

// Where [0, size) is halved: a multiple of 16, so that blocks begin on whole cache lines.
std::int64_t halve(std::int64_t size) { return (size / 2 + 15) / 16 * 16; }

void halve_block(const Block& block, std::int64_t largest, std::vector<Block>& blocks) {
  if (block.area() <= largest || std::max(block.rows, block.cols) <= kDiagonalBlock) return blocks.push_back(block);
  const bool tall = block.rows >= block.cols;
  const std::int64_t h = halve(tall ? block.rows : block.cols);
  if (tall) {
    halve_block({block.row, block.col, h, block.cols}, largest, blocks);
    halve_block({block.row + h, block.col, block.rows - h, block.cols}, largest, blocks);
  } else {
    halve_block({block.row, block.col, block.rows, h}, largest, blocks);
    halve_block({block.row, block.col + h, block.rows, block.cols - h}, largest, blocks);
  }
}

void halve_triangle(std::int64_t begin, std::int64_t size, std::vector<Block>& blocks) {
  if (size <= kDiagonalBlock) return blocks.push_back({begin, begin, size, size});
  const std::int64_t h = halve(size);
  blocks.push_back({begin + h, begin, size - h, h});
  halve_triangle(begin, h, blocks);
  halve_triangle(begin + h, size - h, blocks);
}

// Rows of a panel: wide enough for the library's fast kernels, and its operand and result stay near in the
// caches.
constexpr std::int64_t kPanel = 256;

// Blocks that cover the lower triangle: panels of rows, each a rectangle left of its diagonal block, and that
// one by halves.
std::vector<Block> triangle_blocks(std::int64_t n) {
  std::vector<Block> blocks;
  for (std::int64_t row = 0; row < n; row += kPanel) {
    const std::int64_t rows = std::min(kPanel, n - row);
    if (row > 0) blocks.push_back({row, 0, rows, row});
    halve_triangle(row, rows, blocks);
  }
  return blocks;
}

// The same for several threads: largest first, none so large that a thread would wait long for another.
std::vector<Block> shared_triangle_blocks(std::int64_t n, int threads) {
  std::vector<Block> blocks;
  for (const Block& block : triangle_blocks(n)) halve_block(block, n * n / (4 * threads), blocks);
  std::stable_sort(blocks.begin(), blocks.end(), [](auto& x, auto& y) { return x.area() > y.area(); });
  return blocks;
}

// On a GPU: rows and columns of the blocks in which the lower triangle of `count` products is computed, all of them as one
// batch. n, and so the whole product, where together they are too small for that to pay (docs/gpu.md), or where no block
// of whole cache lines divides n.
std::int64_t gpu_block(std::int64_t n, std::int64_t count) {
  constexpr std::int64_t kLine = 64, kSmallest = 128, kLargest = 1024, kPays = std::int64_t{1} << 22;
  if (count * n * n < kPays) return n;
  const double wanted = n < 4096 ? 256 : 512;
  const auto misfit = [&](std::int64_t size) { return std::abs(std::log(static_cast<double>(size) / wanted)); };
  std::int64_t best = n;
  for (std::int64_t size = kSmallest; size <= std::min(n / 2, kLargest); size += kLine)
    if (n % size == 0 && (best == n || misfit(size) < misfit(best))) best = size;
  return best;
}

// ---- forms, by tiles of 8×8 in registers ----

constexpr std::int64_t kLanes = 8;
using Lanes = float __attribute__((vector_size(32)));

inline void load(const float* from, Lanes& to) { std::memcpy(&to, from, sizeof to); }
inline void store(float* to, const Lanes& from) { std::memcpy(to, &from, sizeof from); }
inline void load(const bfloat16* from, Lanes& to) {
  for (int i = 0; i < kLanes; ++i) to[i] = from[i];
}
inline void store(bfloat16* to, const Lanes& from) {
  for (int i = 0; i < kLanes; ++i) to[i] = bfloat16(from[i]);
}

inline void transpose(Lanes (&r)[8]) {
  Lanes t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  Lanes u[8];
  for (int i = 0; i < 8; i += 4) {
    u[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    u[i + 1] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    u[i + 2] = __builtin_shufflevector(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    u[i + 3] = __builtin_shufflevector(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// C of the product, T of what is stored.
template <class C, class T>
class FormKernel {
 public:
  FormKernel(const MatrixView& c, const SymmetricForm& form)
      : c_(c),
        out_(form.out),
        terms_{Source<T>(form.first.matrix), Source<T>(form.second.matrix)},
        factors_{form.first.factor, form.second.factor},
        product_(form.product),
        identity_(form.identity),
        mirror_(form.mirror),
        in_place_(std::is_same_v<C, T> && c.data == form.out.data && form.product == 1 && form.identity == 0 &&
                  !terms_[0].data && !terms_[1].data) {}

  void tile(std::int64_t row, std::int64_t row_end, std::int64_t col, std::int64_t col_end) const {
    for (std::int64_t r = row; r < row_end; r += kLanes)
      for (std::int64_t j = col; j < col_end && j <= r; j += kLanes)
        if (r + kLanes <= row_end && j + kLanes <= r)
          whole(r, j);
        else
          edge(r, std::min(row_end, r + kLanes), j, std::min(col_end, j + kLanes));
  }

 private:
  template <class E>
  struct Source {
    E* data;
    std::int64_t stride;
    explicit Source(const MatrixView& view) : data(static_cast<E*>(view.data)), stride(view.stride) {}
    E* at(std::int64_t row, std::int64_t col) const { return data + row * stride + col; }
  };

  // Strictly below the diagonal, so there is no identity term.
  void whole(std::int64_t row, std::int64_t col) const {
    Lanes rows[8];
    for (int i = 0; i < 8; ++i) load(c_.at(row + i, col), rows[i]);
    if (!in_place_) {
      for (Lanes& r : rows) r *= product_;
      for (int t = 0; t < 2; ++t) {
        if (!terms_[t].data) continue;
        for (int i = 0; i < 8; ++i) {
          Lanes x;
          load(terms_[t].at(row + i, col), x);
          rows[i] += factors_[t] * x;
        }
      }
      for (int i = 0; i < 8; ++i) store(out_.at(row + i, col), rows[i]);
    }
    if (!mirror_) return;
    transpose(rows);
    for (int i = 0; i < 8; ++i) store(out_.at(col + i, row), rows[i]);
  }

  void edge(std::int64_t row, std::int64_t row_end, std::int64_t col, std::int64_t col_end) const {
    for (std::int64_t r = row; r < row_end; ++r)
      for (std::int64_t j = col; j < std::min(col_end, r + 1); ++j) {
        float value = product_ * static_cast<float>(*c_.at(r, j)) + (r == j ? identity_ : 0.0f);
        for (int t = 0; t < 2; ++t)
          if (terms_[t].data) value += factors_[t] * static_cast<float>(*terms_[t].at(r, j));
        *out_.at(r, j) = T(value);
        if (mirror_) *out_.at(j, r) = T(value);
      }
  }

  Source<C> c_;
  Source<T> out_, terms_[2];
  float factors_[2];
  float product_, identity_;
  bool mirror_, in_place_;
};

template <class C, class T>
void run_forms_of(const MatrixView& c, std::span<const SymmetricForm> forms, const Block& block) {
  constexpr std::int64_t kTile = 64;  // what the forms read and write of one tile stays in the nearest caches
  const std::int64_t row_end = block.row + block.rows, col_end = block.col + block.cols;
  for (std::int64_t r = block.row; r < row_end; r += kTile)
    for (std::int64_t j = block.col; j < (block.diagonal() ? std::min(col_end, r + kTile) : col_end); j += kTile)
      for (const SymmetricForm& form : forms)
        FormKernel<C, T>(c, form).tile(r, std::min(row_end, r + kTile), j, std::min(col_end, j + kTile));
}

void run_forms(const MatrixView& c, std::span<const SymmetricForm> forms, const Block& block) {
  if (c.dtype == Dtype::bfloat16) return run_forms_of<bfloat16, bfloat16>(c, forms, block);
  forms.front().out.dtype == Dtype::bfloat16 ? run_forms_of<float, bfloat16>(c, forms, block)
                                             : run_forms_of<float, float>(c, forms, block);
}

void check_square(const MatrixView& view, std::int64_t n, Dtype dtype) {
  MUONP_ASSERT(view.rows == n && view.cols == n && view.stride >= n && view.dtype == dtype,
               "[{}, {}] {} where [{}, {}] {} is wanted", view.rows, view.cols, name_of(view.dtype), n, n, name_of(dtype));
}

void check_forms(const MatrixView& c, std::span<const SymmetricForm> forms) {
  const Dtype stored = c.dtype == Dtype::float32 && !forms.empty() ? forms.front().out.dtype : c.dtype;
  for (const SymmetricForm& form : forms) {
    check_square(form.out, c.rows, stored);
    for (const SymmetricTerm* term : {&form.first, &form.second})
      if (term->matrix.data) check_square(term->matrix, c.rows, stored);
    MUONP_ASSERT(form.out.data != c.data || &form == &forms.back(), "a form that overwrites C is not the last one");
  }
}

SymmetricForm form_of(const SymmetricForm& form, std::int64_t i, std::int64_t batch_stride) {
  const auto moved = [&](const MatrixView& view) { return view.data ? StridedBatch{view, batch_stride}[i] : view; };
  SymmetricForm of = form;
  of.out = moved(form.out);
  of.first.matrix = moved(form.first.matrix);
  of.second.matrix = moved(form.second.matrix);
  return of;
}

StridedBatch from(const StridedBatch& batch, std::int64_t i) { return {batch[i], batch.batch_stride}; }
StridedBatch block_of(const StridedBatch& batch, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) {
  return {batch.first.block(row, col, rows, cols), batch.batch_stride};
}

// One of the two factors of a product.
struct Factor {
  Op op;
  const StridedBatch& of;

  // Of the matrices from the i-th on, the factor's rows, or columns, [begin, begin + size).
  StridedBatch rows(std::int64_t i, std::int64_t begin, std::int64_t size) const {
    return op == Op::none ? block_of(from(of, i), begin, 0, size, of.first.cols)
                          : block_of(from(of, i), 0, begin, of.first.rows, size);
  }
  StridedBatch cols(std::int64_t i, std::int64_t begin, std::int64_t size) const {
    return op == Op::none ? block_of(from(of, i), 0, begin, of.first.rows, size)
                          : block_of(from(of, i), begin, 0, size, of.first.cols);
  }
};

// Does each matrix begin where cuBLAS wants it in a batch of pointers?
bool begins_aligned(const StridedBatch& batch) {
  return reinterpret_cast<std::uintptr_t>(batch.first.data) % 16 == 0 &&
         batch.batch_stride * size_of(batch.first.dtype) % 16 == 0;
}

// The lower triangle of C = alpha·A·B, and the forms of it.
void lower_triangles(Queue& queue, std::int64_t count, float alpha, const Factor& a, const Factor& b, const StridedBatch& c,
                     std::span<const SymmetricForm> forms) {
  check_forms(c.first, forms);
  const SymmetricForm mirror{.out = c.first};
  if (forms.empty()) forms = {&mirror, 1};
  const std::int64_t n = c.first.rows;
  const auto multiply = [&](std::int64_t i, std::int64_t many, const Block& k) {
    gemm_batched(queue, many, a.op, b.op, alpha, a.rows(i, k.row, k.rows), b.cols(i, k.col, k.cols), 0,
                 block_of(from(c, i), k.row, k.col, k.rows, k.cols));
  };
  if (queue.kind() == DeviceKind::cuda) {
    const std::int64_t block = gpu_block(n, count);
    if (block == n || !begins_aligned(a.of) || !begins_aligned(b.of) || !begins_aligned(c))
      multiply(0, count, {0, 0, n, n});
    else
      cuda::multiply_lower(queue, count, alpha, a.op, a.of, b.op, b.of, c, block);
    return cuda::write_forms(queue, count, c, forms);
  }
  const bool alone = queue.threads() == 1 || omp_in_parallel();
  const std::vector<Block> blocks = alone ? triangle_blocks(n) : shared_triangle_blocks(n, queue.threads());
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<SymmetricForm> own;
    for (const SymmetricForm& form : forms) own.push_back(form_of(form, i, c.batch_stride));
    run_tasks(queue, std::ssize(blocks), [&](std::int64_t k) {
      const Block& block = blocks[at(k)];
      multiply(i, 1, block);
      run_forms(c[i], own, block);
    });
  }
}

}  // namespace

void symmetric_product(Queue& queue, std::int64_t count, float alpha, const StridedBatch& a, const StridedBatch& b,
                       const StridedBatch& c, std::span<const SymmetricForm> forms) {
  const std::int64_t n = c.first.rows;
  for (const StridedBatch* batch : {&a, &b}) check_square(batch->first, n, a.first.dtype);
  check_square(c.first, n, c.first.dtype == Dtype::float32 ? Dtype::float32 : a.first.dtype);
  lower_triangles(queue, count, alpha, {Op::none, a}, {Op::none, b}, c, forms);
}

void gram(Queue& queue, std::int64_t count, Op side, float alpha, const StridedBatch& a, const StridedBatch& c,
          std::span<const SymmetricForm> forms) {
  check_square(c.first, side == Op::none ? a.first.rows : a.first.cols, c.first.dtype);
  const Op other = side == Op::none ? Op::transpose : Op::none;
  lower_triangles(queue, count, alpha, {side, a}, {other, a}, c, forms);
}

namespace {

template <class T>
void average_block(const MatrixView& c, const Block& block) {
  T* data = static_cast<T*>(c.data);
  for (std::int64_t r = block.row; r < block.row + block.rows; ++r)
    for (std::int64_t j = block.col; j < std::min(r, block.col + block.cols); ++j) {
      T &below = data[r * c.stride + j], &above = data[j * c.stride + r];
      below = above = T(0.5f * (static_cast<float>(below) + static_cast<float>(above)));
    }
}

}  // namespace

void symmetrized_product(Queue& queue, std::int64_t count, float alpha, const StridedBatch& a, const StridedBatch& b,
                         const StridedBatch& c) {
  for (const StridedBatch* batch : {&a, &b, &c}) check_square(batch->first, c.first.rows, a.first.dtype);
  gemm_batched(queue, count, Op::none, Op::none, alpha, a, b, 0, c);
  if (queue.kind() == DeviceKind::cuda) return cuda::average_with_transpose(queue, count, c);
  std::vector<Block> blocks;
  for (const Block& block : triangle_blocks(c.first.rows)) halve_block(block, kDiagonalBlock * kDiagonalBlock, blocks);
  const std::int64_t of_one = std::ssize(blocks);
  run_tasks(queue, count * of_one, [&](std::int64_t i) {
    const Block& block = blocks[at(i % of_one)];
    const MatrixView view = c[i / of_one];
    view.dtype == Dtype::float32 ? average_block<float>(view, block) : average_block<bfloat16>(view, block);
  });
}

void symmetric_forms(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> forms) {
  check_square(c.first, c.first.rows, c.first.dtype);
  check_forms(c.first, forms);
  if (queue.kind() == DeviceKind::cuda) return cuda::write_forms(queue, count, c, forms);
  const std::vector<Block> blocks = shared_triangle_blocks(c.first.rows, queue.threads());
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<SymmetricForm> own;
    for (const SymmetricForm& form : forms) own.push_back(form_of(form, i, c.batch_stride));
    run_tasks(queue, std::ssize(blocks), [&](std::int64_t k) { run_forms(c[i], own, blocks[at(k)]); });
  }
}

namespace {

// ⟨p, p⟩, ⟨p, q⟩, ⟨q, q⟩ in float32 over short runs, in double precision over all.
template <class T>
std::array<double, 3> dots(const T* p, const T* q, std::int64_t count) {
  constexpr std::int64_t kRun = 128;
  std::array<double, 3> total{};
  for (std::int64_t begin = 0; begin < count; begin += kRun) {
    float pp = 0, pq = 0, qq = 0;
    for (std::int64_t j = begin; j < std::min(count, begin + kRun); ++j) {
      const float u = p[j], v = q[j];
      pp += u * u;
      pq += u * v;
      qq += v * v;
    }
    total[0] += pp;
    total[1] += pq;
    total[2] += qq;
  }
  return total;
}

template <class T>
std::array<double, 4> moments(Queue& queue, const MatrixView& x, const MatrixView& y) {
  const T *xs = static_cast<const T*>(x.data), *ys = static_cast<const T*>(y.data);
  const std::int64_t x_stride = x.stride, y_stride = y.stride;
  std::vector<std::array<double, 4>> of_row(static_cast<std::size_t>(x.rows));
  for_each_host_row(queue, x.rows, x.rows, [=, &of_row](const Row& row) {
    const std::int64_t i = row.index;
    const T *p = xs + i * x_stride, *q = ys + i * y_stride;
    const auto [pp, pq, qq] = dots(p, q, i);
    const double dx = p[i], dy = q[i];
    of_row[at(i)] = {dx, 2 * pp + dx * dx, 2 * pq + dx * dy, 2 * qq + dy * dy};
  });
  std::array<double, 4> total{};
  for (const auto& values : of_row)
    for (std::size_t k = 0; k < total.size(); ++k) total[k] += values[k];
  return total;
}

}  // namespace

std::array<double, 4> symmetric_moments(Queue& queue, const MatrixView& x, const MatrixView& y) {
  check_square(x, x.rows, x.dtype);
  check_square(y, x.rows, x.dtype);
  if (queue.kind() == DeviceKind::cuda) return cuda::symmetric_moments(queue, x, y);
  return x.dtype == Dtype::float32 ? moments<float>(queue, x, y) : moments<bfloat16>(queue, x, y);
}

double symmetric_flops(std::int64_t n, std::int64_t k, DeviceKind kind, std::int64_t count) {
  double area = 0;
  if (kind == DeviceKind::cpu)
    for (const Block& block : triangle_blocks(n)) area += static_cast<double>(block.area());
  else
    area = 0.5 * static_cast<double>(n) * static_cast<double>(n + gpu_block(n, count));
  return 2 * static_cast<double>(count) * area * static_cast<double>(k);
}

}  // namespace muonp::core
