#include "core/device/cuda/symmetric.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/storage.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"

namespace muonp::core::cuda {

namespace {

// ---- products by blocks up to the diagonal ----

struct Place {
  std::int64_t row, col;
};

// Of the index-th place of a lower triangle by rows: 0; 1, 2; 3, 4, 5; ...
MUONP_HD Place place_of(std::int64_t index) {
  auto row = static_cast<std::int64_t>((sqrt(8.0 * static_cast<double>(index) + 1) - 1) / 2);
  if (row * (row + 1) / 2 > index) --row;  // the root may round either way
  if ((row + 1) * (row + 2) / 2 <= index) ++row;
  return {row, index - row * (row + 1) / 2};
}
std::int64_t places_of(std::int64_t rows) { return rows * (rows + 1) / 2; }

// Bytes from a matrix of a batch to the next one, and from a block to the one below it or beside it.
struct Steps {
  char* first;
  std::int64_t matrix, row, col;
  MUONP_HD void* at(std::int64_t matrix_index, std::int64_t row_index, std::int64_t col_index) const {
    return first + matrix_index * matrix + row_index * row + col_index * col;
  }
};

// Where the blocks of each product lie: those of A, then of B, then of C.
struct FindBlocks {
  Steps a, b, c;
  std::int64_t of_one, all;
  void** out;
  MUONP_HD void operator()(std::int64_t i) const {
    const std::int64_t matrix = i / of_one;
    const Place place = place_of(i % of_one);
    out[i] = a.at(matrix, place.row, 0);
    out[all + i] = b.at(matrix, 0, place.col);
    out[2 * all + i] = c.at(matrix, place.row, place.col);
  }
};

// ---- forms ----

constexpr int kTile = 64, kPart = 8;  // a thread takes kPart neighbouring elements of a row of a tile
constexpr int kParts = kTile / kPart, kTileThreads = 256, kTileRows = kTileThreads / kParts;

template <class T>
struct Source {
  T* data;
  std::int64_t stride;
  explicit Source(const MatrixView& view) : data(static_cast<T*>(view.data)), stride(view.stride) {}
  __device__ T& operator()(std::int64_t row, std::int64_t col) const { return data[row * stride + col]; }
  // The matrix so many elements behind it; there is none behind none.
  __device__ void move(std::int64_t elements) { data = data ? data + elements : data; }
};

// As one access: left to itself the compiler makes several of elements that were computed one by one.
__device__ void store_16_bytes(void* to, const uint4& value) {
#ifdef __CUDA_ARCH__
  __stwb(static_cast<uint4*>(to), value);
#else
  *static_cast<uint4*>(to) = value;
#endif
}

// kPart neighbouring elements. `packed`: all of them, by accesses of 16 bytes; otherwise the first `count`, one by one.
template <class T>
struct Part {
  static constexpr int kPack = 16 / sizeof(T), kPacks = kPart / kPack;
  Values<T, kPack> packs[kPacks];

  __device__ T& operator[](int i) { return packs[i / kPack].at[i % kPack]; }
  template <bool packed>
  __device__ void load(const T* from, std::int64_t count) {
    if constexpr (packed) {
      for (int p = 0; p < kPacks; ++p) packs[p] = std::bit_cast<Values<T, kPack>>(reinterpret_cast<const uint4*>(from)[p]);
    } else {
      for (int i = 0; i < kPart; ++i) (*this)[i] = i < count ? from[i] : T(0.0f);
    }
  }
  template <bool packed>
  __device__ void store(T* to, std::int64_t count) {
    if constexpr (packed) {
      for (int p = 0; p < kPacks; ++p) store_16_bytes(to + p * kPack, std::bit_cast<uint4>(packs[p]));
    } else {
      for (int i = 0; i < kPart; ++i)
        if (i < count) to[i] = (*this)[i];
    }
  }
};

// T of what is stored.
template <class T>
struct Form {
  Source<T> out, first, second;
  float product, identity, first_factor, second_factor;
  bool mirror;

  explicit Form(const SymmetricForm& form)
      : out(form.out),
        first(form.first.matrix),
        second(form.second.matrix),
        product(form.product),
        identity(form.identity),
        first_factor(form.first.factor),
        second_factor(form.second.factor),
        mirror(form.mirror) {}
  __device__ void move(std::int64_t elements) {
    out.move(elements);
    first.move(elements);
    second.move(elements);
  }
};

// C of the product.
template <class C, class T>
struct Forms {
  Source<C> c;
  Form<T> first, second, third;
  int count;
};

template <bool packed, class T>
__device__ void add_term(float factor, const Source<T>& term, std::int64_t row, std::int64_t col, std::int64_t count,
                         float (&values)[kPart]) {
  if (!term.data) return;
  Part<T> part;
  part.template load<packed>(&term(row, col), count);
  for (int e = 0; e < kPart; ++e) values[e] += factor * float(part[e]);
}

// One form of a tile of the lower triangle, and of the one above the diagonal that mirrors it, so that a form may write C.
// What lies above the diagonal of C and of the terms may be read, and is not used.
template <bool packed, class C, class T>
__device__ void write_tile(std::int64_t n, const Place& place, const Source<C>& c, const Form<T>& form,
                           float (&tile)[kTile][kTile + 1]) {
  const std::int64_t top = place.row * kTile, left = place.col * kTile;
  const int first_row = static_cast<int>(threadIdx.x) / kParts, at = static_cast<int>(threadIdx.x) % kParts * kPart;
  const bool diagonal = top == left;
  for (int i = first_row; i < kTile; i += kTileRows) {
    const std::int64_t r = top + i, j = left + at, count = (diagonal ? r + 1 : n) - j;
    if (r >= n || count <= 0) continue;
    Part<C> product;
    product.template load<packed>(&c(r, j), count);
    float values[kPart];
    for (int e = 0; e < kPart; ++e) values[e] = form.product * float(product[e]) + (r == j + e ? form.identity : 0.0f);
    add_term<packed>(form.first_factor, form.first, r, j, count, values);
    add_term<packed>(form.second_factor, form.second, r, j, count, values);
    for (int e = 0; e < kPart; ++e) tile[i][at + e] = values[e];
    if (diagonal && form.mirror) continue;  // whole rows are stored below
    Part<T> part;
    for (int e = 0; e < kPart; ++e) part[e] = T(values[e]);
    diagonal ? part.template store<false>(&form.out(r, j), count) : part.template store<packed>(&form.out(r, j), count);
  }
  if (!form.mirror) return;
  __syncthreads();
  for (int i = first_row; i < kTile; i += kTileRows) {
    const std::int64_t r = left + i, j = top + at;
    if (r >= n || j >= n) continue;
    Part<T> part;
    for (int e = 0; e < kPart; ++e) part[e] = T(diagonal && at + e <= i ? tile[i][at + e] : tile[at + e][i]);
    part.template store<packed>(&form.out(r, j), n - j);
  }
}

// A block has one pair of tiles, and its threads take the same elements of each form. The forms have a name each: an array
// that is indexed would lie in local memory. packed: n is a multiple of kPart, and rows begin at multiples of 16 bytes.
template <bool packed, class C, class T>
__global__ void __launch_bounds__(kTileThreads) form_kernel(std::int64_t n, Forms<C, T> forms, std::int64_t apart) {
  MUONP_SHARED float tile[kTile][kTile + 1];  // a column more, so that columns lie in different banks
  const Place place = place_of(blockIdx.x);
  const std::int64_t elements = blockIdx.y * apart;
  const auto write = [&](Form<T> form) {
    form.move(elements);
    write_tile<packed>(n, place, forms.c, form, tile);
  };
  forms.c.move(elements);
  write(forms.first);
  if (forms.count == 1) return;
  __syncthreads();  // the tile of the form before has been read
  write(forms.second);
  if (forms.count == 2) return;
  __syncthreads();
  write(forms.third);
}

// ---- the mean with the transpose ----

constexpr int kMeanTile = 32, kMeanRows = 8;  // a block of kMeanTile × kMeanRows threads passes over a tile

template <class T>
__global__ void __launch_bounds__(kMeanTile* kMeanRows) average_kernel(std::int64_t n, Source<T> c, std::int64_t apart) {
  MUONP_SHARED float above[kMeanTile][kMeanTile + 1];
  const Place place = place_of(blockIdx.x);
  const std::int64_t top = place.row * kMeanTile, left = place.col * kMeanTile;
  const int lane = static_cast<int>(threadIdx.x);
  c.move(static_cast<std::int64_t>(blockIdx.y) * apart);
  for (int i = static_cast<int>(threadIdx.y); i < kMeanTile; i += kMeanRows) {
    const std::int64_t r = left + i, j = top + lane;
    if (j < n && r < j) above[i][lane] = float(c(r, j));
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kMeanTile; i += kMeanRows) {
    const std::int64_t r = top + i, j = left + lane;
    if (r >= n || j >= r) continue;
    above[lane][i] = 0.5f * (above[lane][i] + float(c(r, j)));
    c(r, j) = T(above[lane][i]);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kMeanTile; i += kMeanRows) {
    const std::int64_t r = left + i, j = top + lane;
    if (j < n && r < j) c(r, j) = T(above[i][lane]);
  }
}

// Of row i: x_ii, and the row's share of Σx², Σxy, Σy² over the whole matrix, in double precision.
template <class T>
struct Moments {
  const T *x, *y;
  std::int64_t x_stride, y_stride;
  double* out;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t i = row.index;
    const T *p = x + i * x_stride, *q = y + i * y_stride;
    const auto below = row.part(i);
    const double xx = below.sum([=](std::int64_t j) { return double(float(p[j])) * double(float(p[j])); });
    const double xy = below.sum([=](std::int64_t j) { return double(float(p[j])) * double(float(q[j])); });
    const double yy = below.sum([=](std::int64_t j) { return double(float(q[j])) * double(float(q[j])); });
    const double dx = float(p[i]), dy = float(q[i]);
    out[4 * i] = dx;
    out[4 * i + 1] = 2 * xx + dx * dx;
    out[4 * i + 2] = 2 * xy + dx * dy;
    out[4 * i + 3] = 2 * yy + dy * dy;
  }
};

// Tiles of each of `count` matrices.
dim3 grid_of(std::int64_t n, int tile, std::int64_t count) {
  MUONP_ASSERT(count < 65536, "a batch of {}", count);
  return {static_cast<unsigned>(places_of((n + tile - 1) / tile)), static_cast<unsigned>(count)};
}

bool lies_aligned(const MatrixView& view, std::int64_t apart) {
  const std::int64_t bytes = size_of(view.dtype);
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 && view.stride * bytes % 16 == 0 && apart * bytes % 16 == 0;
}

Steps steps_of(const StridedBatch& batch, std::int64_t rows, std::int64_t cols) {
  const std::int64_t bytes = size_of(batch.first.dtype);
  return {static_cast<char*>(batch.first.data), batch.batch_stride * bytes, rows * batch.first.stride * bytes, cols * bytes};
}

constexpr std::size_t kMostForms = 3;

template <class C, class T>
void write(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> some) {
  const std::int64_t n = c.first.rows;
  bool packed = n % kPart == 0 && lies_aligned(c.first, c.batch_stride);
  for (const SymmetricForm& form : some)
    for (const MatrixView* view : {&form.out, &form.first.matrix, &form.second.matrix})
      packed = packed && lies_aligned(*view, c.batch_stride);
  const auto form = [&](std::size_t i) { return Form<T>(i < some.size() ? some[i] : SymmetricForm{}); };
  launch(packed ? &form_kernel<true, C, T> : &form_kernel<false, C, T>, grid_of(n, kTile, count), dim3(kTileThreads), 0,
         stream_of(queue), n, Forms<C, T>{Source<C>(c.first), form(0), form(1), form(2), static_cast<int>(some.size())},
         c.batch_stride);
}

}  // namespace

void multiply_lower(Queue& queue, std::int64_t count, float alpha, Op op_a, const StridedBatch& a, Op op_b,
                    const StridedBatch& b, const StridedBatch& c, std::int64_t block) {
  const std::int64_t n = c.first.rows, of_one = places_of(n / block), all = count * of_one;
  MUONP_ASSERT(n % block == 0, "blocks of {} in {} rows", block, n);
  const bool ta = op_a == Op::transpose, tb = op_b == Op::transpose;
  Steps rows = steps_of(a, ta ? 0 : block, 0), cols = steps_of(b, 0, tb ? 0 : block);
  if (ta) rows.row = block * size_of(a.first.dtype);
  if (tb) cols.col = block * b.first.stride * size_of(b.first.dtype);
  const Tensor pointers = Tensor::empty(queue.device(), {3 * all * 2}, Dtype::int32, Category::other);
  auto** out = static_cast<void**>(pointers.raw());
  core::for_each(queue, all, FindBlocks{rows, cols, steps_of(c, block, block), of_one, all, out});
  const Product first{op_a, op_b, block, block, ta ? a.first.rows : a.first.cols, alpha, 0, a.first, b.first, c.first};
  static_cast<CudaQueue&>(queue).multiply_each(first, all, out, out + all, out + 2 * all);
}

void write_forms(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> forms) {
  if (c.first.rows == 0 || count == 0) return;
  for (; !forms.empty(); forms = forms.subspan(std::min(forms.size(), kMostForms))) {
    const std::span<const SymmetricForm> some = forms.first(std::min(forms.size(), kMostForms));
    with_storage(some.front().out.dtype, [&]<class T>(T) {
      c.first.dtype == Dtype::float32 ? write<float, T>(queue, count, c, some) : write<T, T>(queue, count, c, some);
    });
  }
}

void average_with_transpose(Queue& queue, std::int64_t count, const StridedBatch& c) {
  const std::int64_t n = c.first.rows;
  if (n == 0 || count == 0) return;
  with_storage(c.first.dtype, [&]<class T>(T) {
    launch(&average_kernel<T>, grid_of(n, kMeanTile, count), dim3(kMeanTile, kMeanRows), 0, stream_of(queue), n,
           Source<T>(c.first), c.batch_stride);
  });
}

std::array<double, 4> symmetric_moments(Queue& queue, const MatrixView& x, const MatrixView& y) {
  HostResult<double> rows(queue, 4 * x.rows);
  with_storage(x.dtype, [&]<class T>(T) {
    core::for_each_row(
        queue, x.rows, x.rows,
        Moments<T>{static_cast<const T*>(x.data), static_cast<const T*>(y.data), x.stride, y.stride, rows.to_write()});
  });
  std::array<double, 4> total{};
  const std::vector<double>& values = rows.read();
  for (std::size_t i = 0; i < values.size(); ++i) total[i % 4] += values[i];
  return total;
}

}  // namespace muonp::core::cuda
