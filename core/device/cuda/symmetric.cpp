#include "core/device/cuda/symmetric.h"

#include <cmath>

#include "core/base/storage.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"

namespace muonp::core::cuda {

namespace {

constexpr int kTile = 32, kTileRows = 8;  // a block of kTile × kTileRows threads passes over a tile of kTile × kTile

struct Tile {
  std::int64_t row, col;
};

// Tiles of the lower triangle by rows: 0; 1, 2; 3, 4, 5; ...
__device__ Tile tile_of(std::int64_t index) {
  auto row = static_cast<std::int64_t>((sqrt(8.0 * static_cast<double>(index) + 1) - 1) / 2);
  if (row * (row + 1) / 2 > index) --row;  // the root may round either way
  if ((row + 1) * (row + 2) / 2 <= index) ++row;
  return {row * kTile, (index - row * (row + 1) / 2) * kTile};
}

std::int64_t tiles_of(std::int64_t n) {
  const std::int64_t tiles = (n + kTile - 1) / kTile;
  return tiles * (tiles + 1) / 2;
}

template <class T>
struct Source {
  T* data;
  std::int64_t stride;
  explicit Source(const MatrixView& view) : data(static_cast<T*>(view.data)), stride(view.stride) {}
  __device__ T& operator()(std::int64_t row, std::int64_t col) const { return data[row * stride + col]; }
  // The matrix so many elements behind it; there is none behind none.
  __device__ void move(std::int64_t elements) { data = data ? data + elements : data; }
};

// C of the product, T of what is stored.
template <class C, class T>
struct Form {
  Source<C> c;
  Source<T> out, first, second;
  float product, identity, first_factor, second_factor;
  bool mirror;

  Form(const MatrixView& from, const SymmetricForm& form)
      : c(from),
        out(form.out),
        first(form.first.matrix),
        second(form.second.matrix),
        product(form.product),
        identity(form.identity),
        first_factor(form.first.factor),
        second_factor(form.second.factor),
        mirror(form.mirror) {}

  __device__ void move(std::int64_t elements) {
    c.move(elements);
    out.move(elements);
    first.move(elements);
    second.move(elements);
  }
  __device__ float at(std::int64_t r, std::int64_t j, float of_product) const {
    float value = product * of_product + (r == j ? identity : 0.0f);
    if (first.data) value += first_factor * float(first(r, j));
    if (second.data) value += second_factor * float(second(r, j));
    return value;
  }
};

// A block has one tile of the lower triangle and the one above the diagonal that mirrors it, so that a form may write C.
template <class C, class T, Triangles triangles>
__global__ void __launch_bounds__(kTile* kTileRows) form_kernel(std::int64_t n, Form<C, T> form, std::int64_t apart) {
  MUONP_SHARED float values[kTile][kTile + 1];  // a column more, so that columns lie in different banks
  const Tile tile = tile_of(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x);
  form.move(static_cast<std::int64_t>(blockIdx.y) * apart);
  if constexpr (triangles == Triangles::mean) {
    for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileRows) {
      const std::int64_t r = tile.col + i, j = tile.row + lane;
      if (j < n && r < n) values[lane][i] = float(form.c(r, j));
    }
    __syncthreads();
  }
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileRows) {
    const std::int64_t r = tile.row + i, j = tile.col + lane;
    if (r >= n || j > r) continue;
    float of_product = float(form.c(r, j));
    if constexpr (triangles == Triangles::mean) of_product = 0.5f * (of_product + values[i][lane]);
    values[i][lane] = form.at(r, j, of_product);
    form.out(r, j) = T(values[i][lane]);
  }
  if (!form.mirror) return;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileRows) {
    const std::int64_t r = tile.col + i, j = tile.row + lane;  // above the diagonal
    if (j < n && r < j) form.out(r, j) = T(values[lane][i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kTile* kTileRows) average_kernel(std::int64_t n, Source<T> c, std::int64_t apart) {
  MUONP_SHARED float above[kTile][kTile + 1];
  const Tile tile = tile_of(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x);
  c.move(static_cast<std::int64_t>(blockIdx.y) * apart);
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileRows) {
    const std::int64_t r = tile.col + i, j = tile.row + lane;
    if (j < n && r < j) above[i][lane] = float(c(r, j));
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileRows) {
    const std::int64_t r = tile.row + i, j = tile.col + lane;
    if (r >= n || j >= r) continue;
    above[lane][i] = 0.5f * (above[lane][i] + float(c(r, j)));
    c(r, j) = T(above[lane][i]);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileRows) {
    const std::int64_t r = tile.col + i, j = tile.row + lane;
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
dim3 grid_of(std::int64_t n, std::int64_t count) {
  MUONP_ASSERT(count < 65536, "a batch of {}", count);
  return {static_cast<unsigned>(tiles_of(n)), static_cast<unsigned>(count)};
}

}  // namespace

namespace {

template <class C, class T>
void write_form(Queue& queue, std::int64_t count, const StridedBatch& c, const SymmetricForm& form, Triangles triangles) {
  const std::int64_t n = c.first.rows;
  const auto kernel =
      triangles == Triangles::mean ? &form_kernel<C, T, Triangles::mean> : &form_kernel<C, T, Triangles::lower>;
  launch(kernel, grid_of(n, count), dim3(kTile, kTileRows), 0, stream_of(queue), n, Form<C, T>(c.first, form),
         c.batch_stride);
}

}  // namespace

void write_forms(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> forms,
                 Triangles triangles) {
  if (c.first.rows == 0 || count == 0) return;
  for (const SymmetricForm& form : forms)
    with_storage(form.out.dtype, [&]<class T>(T) {
      form.out.dtype == c.first.dtype ? write_form<T, T>(queue, count, c, form, triangles)
                                      : write_form<float, T>(queue, count, c, form, triangles);
    });
}

void average_with_transpose(Queue& queue, std::int64_t count, const StridedBatch& c) {
  const std::int64_t n = c.first.rows;
  if (n == 0 || count == 0) return;
  with_storage(c.first.dtype, [&]<class T>(T) {
    launch(&average_kernel<T>, grid_of(n, count), dim3(kTile, kTileRows), 0, stream_of(queue), n, Source<T>(c.first),
           c.batch_stride);
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
