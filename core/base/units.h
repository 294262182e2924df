// Numbers as people read them, three to four significant digits.
#pragma once

#include <cstdint>
#include <string>

namespace muonp::core {

std::string format_bytes(std::int64_t bytes);                  // "512 B", "1.50 MiB", "2.00 GiB"
std::string format_count(double count);                        // "950", "12.3 k", "124 M", "1.56 B"
std::string format_duration(double seconds);                   // "850 us", "12.3 ms", "4.20 s", "3 min 05 s", "2 h 07 min"
std::string format_rate(double per_second, const char* unit);  // "12.3 k tokens/s"
std::string format_percent(double fraction);                   // "61.5 %"

// A number as it is, NaN without its sign, which means nothing and would be printed.
double plain_nan(double value);

}  // namespace muonp::core
