#include "launch/records/event_file.h"

#include <bit>
#include <concepts>
#include <string_view>

#include "launch/records/crc32c.h"

namespace muonp::launch {
namespace {

// The field's number and wire type: https://protobuf.dev/programming-guides/encoding.
enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

template <std::unsigned_integral Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(int field, Wire wire) {
  return varint(static_cast<std::uint64_t>(field) << 3 | static_cast<unsigned>(wire));
}
std::string number(int field, double value) {
  return key(field, Wire::fixed64) + little_endian(std::bit_cast<std::uint64_t>(value));
}
std::string number(int field, float value) {
  return key(field, Wire::fixed32) + little_endian(std::bit_cast<std::uint32_t>(value));
}
std::string number(int field, std::int64_t value) {
  return key(field, Wire::varint) + varint(static_cast<std::uint64_t>(value));
}
std::string bytes(int field, std::string_view value) {
  return key(field, Wire::bytes) + varint(value.size()) + std::string(value);
}

}  // namespace

std::string framed(const std::string& message) {
  const std::string length = little_endian(static_cast<std::uint64_t>(message.size()));
  return length + little_endian(masked_crc32c(length)) + message + little_endian(masked_crc32c(message));
}

std::string version_event(double wall_time) { return number(1, wall_time) + bytes(3, "brain.Event:2"); }

std::string summary_event(double wall_time, std::int64_t step, const std::vector<EventScalar>& scalars) {
  std::string summary;
  for (const EventScalar& scalar : scalars) summary += bytes(1, bytes(1, scalar.tag) + number(2, scalar.value));
  return number(1, wall_time) + number(2, step) + bytes(5, summary);
}

}  // namespace muonp::launch
