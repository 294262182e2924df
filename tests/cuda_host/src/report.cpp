#include "report.h"

#include <cstdio>
#include <cstdlib>

#include "cuda_host.h"
#include "lock.h"

namespace cuda_host {
namespace {

struct Reports {
  Lock lock;
  std::vector<std::string> kept;
  std::function<void(const std::string&)> action;
  int collectors = 0;
  bool at_exit = false;
};

Reports& state() {
  static Reports* state = new Reports;  // outlives every static of the program
  return *state;
}

std::function<void(const std::string&)> keep(const std::string& text) {
  Hold hold(state().lock);
  state().kept.push_back(text);
  if (state().collectors > 0) return [](const std::string&) {};
  return state().action;
}

}  // namespace

void report(const std::string& text) {
  IgnoredBySanitizer ignored;
  if (auto action = keep(text)) {
    action(text);
    return;
  }
  std::fprintf(stderr, "cuda_host: %s\n", text.c_str());
  std::abort();
}

void report_at_exit(const std::string& text) {
  IgnoredBySanitizer ignored;
  if (auto action = keep(text)) {
    action(text);
    return;
  }
  std::fprintf(stderr, "cuda_host: %s\n", text.c_str());
  state().at_exit = true;
}

bool reported_at_exit() { return state().at_exit; }

std::vector<std::string> reports() {
  Hold hold(state().lock);
  return state().kept;
}

std::vector<std::string> take_reports() {
  Hold hold(state().lock);
  return std::move(state().kept);
}

void on_report(std::function<void(const std::string&)> action) {
  Hold hold(state().lock);
  state().action = std::move(action);
}

CollectReports::CollectReports() {
  Hold hold(state().lock);
  ++state().collectors;
}

CollectReports::~CollectReports() {
  Hold hold(state().lock);
  --state().collectors;
}

std::string hex(const void* pointer) {
  char text[32];
  std::snprintf(text, sizeof text, "%p", pointer);
  return text;
}

}  // namespace cuda_host
