#include "dist/zero/runs.h"

#include "core/device/for_each.h"

namespace muonp::dist {

namespace {

struct Pack {
  std::int64_t offset, pitch, cols, begin;
  const float* piece;
  float* packed;
  MUONP_HD void operator()(std::int64_t i) const {
    const std::int64_t element = begin + i;
    packed[i] = piece[offset + element / cols * pitch + element % cols];
  }
};

struct Unpack {
  std::int64_t offset, pitch, cols, begin;
  const float* packed;
  float* piece;
  MUONP_HD void operator()(std::int64_t i) const {
    const std::int64_t element = begin + i;
    piece[offset + element / cols * pitch + element % cols] = packed[i];
  }
};

}  // namespace

void pack(core::Queue& queue, const Rectangle& r, Interval elements, const float* piece, std::int64_t begin, float* packed) {
  core::for_each(queue, elements.count(), Pack{r.offset - begin, r.pitch, r.cols, elements.begin, piece, packed});
}

void unpack(core::Queue& queue, const Rectangle& r, Interval elements, const float* packed, float* piece,
            std::int64_t begin) {
  core::for_each(queue, elements.count(), Unpack{r.offset - begin, r.pitch, r.cols, elements.begin, packed, piece});
}

}  // namespace muonp::dist
