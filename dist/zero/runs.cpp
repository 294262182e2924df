#include "dist/zero/runs.h"

#include "core/device/for_each.h"

namespace muonp::dist {

namespace {

// Where an element of a rectangle lies in a piece.
struct Place {
  std::int64_t offset, pitch, cols;
  Place(const Rectangle& r, std::int64_t begin) : offset(r.offset - begin), pitch(r.pitch), cols(r.cols) {}
  MUONP_HD std::int64_t of(std::int64_t element) const { return offset + element / cols * pitch + element % cols; }
};

struct Pack {
  Place place;
  std::int64_t first;
  const float* piece;
  float* packed;
  MUONP_HD void operator()(std::int64_t i) const { packed[i] = piece[place.of(first + i)]; }
};

struct Unpack {
  Place place;
  std::int64_t first;
  const float* packed;
  float* piece;
  MUONP_HD void operator()(std::int64_t i) const { piece[place.of(first + i)] = packed[i]; }
};

}  // namespace

void pack(core::Queue& queue, const Rectangle& r, Interval elements, const float* piece, std::int64_t begin, float* packed) {
  core::for_each(queue, elements.count(), Pack{Place(r, begin), elements.begin, piece, packed});
}

void unpack(core::Queue& queue, const Rectangle& r, Interval elements, const float* packed, float* piece,
            std::int64_t begin) {
  core::for_each(queue, elements.count(), Unpack{Place(r, begin), elements.begin, packed, piece});
}

}  // namespace muonp::dist
