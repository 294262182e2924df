#include <algorithm>

#include "gemm.h"
#include "runtime.h"

namespace cuda_host {
namespace {

constexpr int64_t kMostPairs = 1 << 20;

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }

struct Range {
  uintptr_t first;
  uintptr_t end;
};

// Of one matrix of the batch, in bytes.
Range extent(const GemmMatrix& x, int64_t index) {
  const int64_t bytes = element_bytes(x.type);
  const uintptr_t first = reinterpret_cast<uintptr_t>(x.data) + static_cast<uintptr_t>(index * x.stride * bytes);
  return {first, first + static_cast<uintptr_t>(((x.columns - 1) * x.ld + x.rows) * bytes)};
}

Range extent_of_batch(const GemmMatrix& x, int64_t batch) {
  const Range first = extent(x, 0), last = extent(x, batch - 1);
  return {std::min(first.first, last.first), std::max(first.end, last.end)};
}

bool disjoint(Range x, Range y) { return x.end <= y.first || y.end <= x.first; }

// Of two rectangles of one leading dimension, whose first elements are `offset` elements apart: offset = i +
// j ld with -x.rows < i < y.rows and -x.columns < j < y.columns has at most two candidates for j, since rows
// <= ld.
bool rectangles_meet(const GemmMatrix& x, const GemmMatrix& y, int64_t offset) {
  const int64_t below = floor_divide(offset, x.ld);
  for (int64_t j : {below, below + 1}) {
    const int64_t i = offset - j * x.ld;
    if (i > -y.rows && i < x.rows && j > -y.columns && j < x.columns) return true;
  }
  return false;
}

bool check_matrix(const char* function, const char* name, const GemmMatrix& x, int64_t batch, int device) {
  const std::string where = std::string(function) + ": " + name;
  if (reinterpret_cast<uintptr_t>(x.data) % static_cast<uintptr_t>(element_bytes(x.type)) != 0) {
    report(where + ": " + hex(x.data) + " is not aligned to its elements");
    return false;
  }
  const Range range = extent_of_batch(x, batch);
  const Location at = locate(function, name, reinterpret_cast<const void*>(range.first), range.end - range.first);
  if (at.place == Place::kInvalid) return false;
  if (at.place == Place::kPageable) {
    report(where + ": " + hex(x.data) + " is pageable host memory");
    return false;
  }
  if (at.place == Place::kDevice && at.device != device) {
    report(where + ": is memory of device " + std::to_string(at.device) + ", the handle is of device " +
           std::to_string(device));
    return false;
  }
  return true;
}

}  // namespace

int64_t element_bytes(cudaDataType type) {
  switch (type) {
    case CUDA_R_64F:
      return 8;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_8I:
      break;
  }
  return 1;
}

bool share_elements(const GemmMatrix& x, const GemmMatrix& y, int64_t batch) {
  const bool same = &x == &y;
  if (same && batch == 1) return false;
  if (!same && disjoint(extent_of_batch(x, batch), extent_of_batch(y, batch))) return false;
  const bool comparable = x.ld == y.ld && element_bytes(x.type) == element_bytes(y.type);
  // Within one matrix only the distance counts.
  const int64_t rounds = same ? 1 : batch;
  if (rounds * batch > kMostPairs) return false;
  for (int64_t p = 0; p < rounds; ++p) {
    for (int64_t q = same ? 1 : 0; q < batch; ++q) {
      const Range first = extent(x, p), second = extent(y, q);
      if (disjoint(first, second)) continue;
      if (!comparable) return true;
      const auto distance = static_cast<int64_t>(second.first - first.first);
      if (distance % element_bytes(x.type) != 0) return true;
      if (rectangles_meet(x, y, distance / element_bytes(x.type))) return true;
    }
  }
  return false;
}

bool check_matrices(const char* function, const Gemm& gemm, int device) {
  if (!check_matrix(function, "C", gemm.c, gemm.batch, device)) return false;
  if (share_elements(gemm.c, gemm.c, gemm.batch)) {
    report(std::string(function) + ": C: the matrices of the batch overlap");
    return false;
  }
  const bool gelu = gemm.gelu != Gelu::none;
  if (gelu && !check_matrix(function, "what gelu is of", gemm.before, 1, device)) return false;
  if (gelu && share_elements(gemm.before, gemm.c, 1)) {
    report(std::string(function) + ": C overlaps what gelu is of");
    return false;
  }
  if (gemm.k == 0) return true;
  if (!check_matrix(function, "A", gemm.a, gemm.batch, device)) return false;
  if (!check_matrix(function, "B", gemm.b, gemm.batch, device)) return false;
  for (const GemmMatrix* input : {&gemm.a, &gemm.b}) {
    if (gemm.gelu == Gelu::value && share_elements(*input, gemm.before, 1)) {
      report(std::string(function) + ": what gelu is of overlaps " + (input == &gemm.a ? "A" : "B"));
      return false;
    }
    if (!share_elements(*input, gemm.c, gemm.batch)) continue;
    report(std::string(function) + ": C overlaps " + (input == &gemm.a ? "A" : "B"));
    return false;
  }
  return true;
}

}  // namespace cuda_host
