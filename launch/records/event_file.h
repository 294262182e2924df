// TensorBoard's event files, written by hand: records of an Event message each (tensorflow/core/util/event.proto and
// tensorflow/core/framework/summary.proto; the frame is that of tensorflow/core/lib/io/record_writer.h):
//
//   uint64 length | uint32 masked CRC-32C of these 8 bytes | message | uint32 masked CRC-32C of the message (little-endian)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::launch {

// The frame around one message.
std::string framed(const std::string& message);

// What an event file begins with: its version, "brain.Event:2".
std::string version_event(double wall_time);

struct EventScalar {
  std::string tag;
  float value = 0;
};
std::string summary_event(double wall_time, std::int64_t step, const std::vector<EventScalar>& scalars);

}  // namespace muonp::launch
