#include "core/files/npy_elements.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::core {
namespace {

using Limits = std::numeric_limits<float>;

std::string name_of(std::string_view type) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"f2", "float16"},   {"f4", "float32"},     {"f8", "float64"}, {"f16", "long double"},
      {"c8", "complex64"}, {"c16", "complex128"}, {"b1", "bool"},    {"i1", "int8"},
      {"i2", "int16"},     {"i4", "int32"},       {"i8", "int64"},   {"u1", "uint8"},
      {"u2", "uint16"},    {"u4", "uint32"},      {"u8", "uint64"},  {"O", "Python objects"}};
  for (const auto& [code, name] : kNames)
    if (type.substr(1) == code) return std::string(name);
  return "";
}

template <class T>
T number_at(const char* from, bool swapped) {
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), from, sizeof(T));
  if (swapped) std::reverse(bytes.begin(), bytes.end());
  return std::bit_cast<T>(bytes);
}

std::string described(std::int64_t bytes, bool swapped, bool fortran) {
  if (bytes == 4 && !swapped && !fortran) return "";
  return fmt::format("{}float{}{}", swapped ? "big-endian " : "", 8 * bytes, fortran ? " in Fortran order" : "");
}

}  // namespace

std::int64_t npy_element_bytes(const std::string& type, const std::string& path) {
  if (type.size() == 3 && std::string_view("<>=|").find(type[0]) != std::string_view::npos && type[1] == 'f')
    for (const std::int64_t bytes : {2, 4, 8})
      if (type[2] == '0' + bytes) return bytes;
  const std::string name = type.empty() ? "" : name_of(type);
  fail(
      "{}: the element type is '{}'{}; float16, float32 and float64 are read, as by np.save(path, "
      "G.astype('float32'))",
      path, type, name.empty() ? "" : fmt::format(" ({})", name));
}

NpyElements::NpyElements(const std::string& type, bool fortran, Shape shape, const std::string& path)
    : path_(path),
      shape_(std::move(shape)),
      fortran_(fortran),
      swapped_(type.starts_with('>')),
      bytes_(npy_element_bytes(type, path)),
      original_(described(bytes_, swapped_, fortran)),
      index_(shape_.size()),
      largest_(shape_.size() == 3 ? static_cast<std::size_t>(shape_[0]) : 1) {}

double NpyElements::decode(const char* from) const {
  if (bytes_ == 8) return number_at<double>(from, swapped_);
  if (bytes_ == 4) return number_at<float>(from, swapped_);
  float16 half;
  half.bits = number_at<std::uint16_t>(from, swapped_);
  return static_cast<float>(half);
}

// Where the element at index_ belongs; moves on to the next: the last index runs fastest in C order, the first in
// Fortran order.
std::int64_t NpyElements::next_place() {
  std::int64_t place = 0;
  for (std::size_t d = 0; d < shape_.size(); ++d) place = place * shape_[d] + index_[d];
  for (std::size_t i = 0; i < shape_.size(); ++i) {
    const std::size_t d = fortran_ ? i : shape_.size() - 1 - i;
    if (++index_[d] < shape_[d]) break;
    index_[d] = 0;
  }
  return place;
}

void NpyElements::convert(std::span<const char> block, std::vector<float>& values) {
  for (std::size_t i = 0; i < block.size(); i += static_cast<std::size_t>(bytes_)) {
    const double value = decode(block.data() + i), size = std::fabs(value);
    const auto rounded = static_cast<float>(value);
    if (std::isinf(rounded) && std::isfinite(value))
      fail("{}: entry {} is {}, too large for float32, in which is computed; divide the matrix by a number", path_,
           to_string(index_), value);
    double& largest = largest_[shape_.size() == 3 ? static_cast<std::size_t>(index_[0]) : 0];
    if (std::isfinite(value)) largest = std::max(largest, size);
    values[at(next_place())] = rounded;
  }
}

void NpyElements::finish() const {
  constexpr double kLeast = static_cast<double>(Limits::min()) / static_cast<double>(Limits::epsilon());
  for (std::size_t i = 0; i < largest_.size(); ++i)
    if (bytes_ == 8 && largest_[i] > 0 && largest_[i] < kLeast)
      fail("{}: {}the largest entry is {}, too small for float32, in which is computed; multiply the matrix by a number",
           path_, shape_.size() == 3 ? fmt::format("matrix {}: ", i) : "", largest_[i]);
}

}  // namespace muonp::core
