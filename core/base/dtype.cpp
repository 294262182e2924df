#include "core/base/dtype.h"

#include "core/base/error.h"

namespace muonp::core {

std::int64_t size_of(Dtype dtype) {
  if (dtype == Dtype::uint8) return 1;
  return dtype == Dtype::bfloat16 || dtype == Dtype::float16 ? 2 : 4;
}

std::string_view name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32:
      return "float32";
    case Dtype::bfloat16:
      return "bfloat16";
    case Dtype::float16:
      return "float16";
    case Dtype::int32:
      return "int32";
    case Dtype::tf32:
      return "tf32";
    case Dtype::uint8:
      return "uint8";
  }
  throw InternalError("unknown dtype");
}

Dtype parse_dtype(std::string_view name) {
  for (Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::float16, Dtype::int32, Dtype::tf32, Dtype::uint8})
    if (name == name_of(dtype)) return dtype;
  fail("'{}' is not an element type; valid are float32, bfloat16, float16, int32, tf32, uint8", name);
}

}  // namespace muonp::core
