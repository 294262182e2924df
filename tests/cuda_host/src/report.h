// Reports of misuse (cuda_host.h: on_report, reports).
#pragma once

#include <string>

namespace cuda_host {

// Keeps the report and runs the action on it; returns only where the action does not abort.
void report(const std::string& text);
// For checks at exit and at configure: reports after one another instead of stopping at the first.
void report_at_exit(const std::string& text);
bool reported_at_exit();
std::string hex(const void* pointer);

}  // namespace cuda_host
