#include "launch/bench/trace_file.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/files/files.h"
#include "dist/comm/agreement.h"

namespace muonp::launch {
namespace {

using Json = nlohmann::ordered_json;
using Lane = core::Trace::Lane;

constexpr std::array<std::pair<Lane, const char*>, 3> kLanes = {
    {{Lane::host, "host"}, {Lane::compute, "compute"}, {Lane::communication, "communication"}}};

const char* category_of(Lane lane) { return kLanes[core::at(static_cast<int>(lane))].second; }

// Both ends are rounded alike, so what lies within another span still does.
std::int64_t nanoseconds(double seconds) { return std::llround(seconds * 1e9); }

Json as_json(const core::Trace::Span& span, int rank) {
  const std::int64_t begin = nanoseconds(span.begin), end = nanoseconds(span.end);
  return {{"ph", "X"},
          {"name", span.name},
          {"cat", category_of(span.lane)},
          {"pid", rank},
          {"tid", static_cast<int>(span.lane)},
          {"ts", static_cast<double>(begin) * 1e-3},
          {"dur", static_cast<double>(end - begin) * 1e-3}};
}

Json name_of_lane(const char* what, const std::string& name, int rank, int lane) {
  return {{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", lane}, {"args", {{"name", name}}}};
}

// One event a line, which a reader of the file can search.
std::string events_of_rank(Session& session, const core::Trace& trace) {
  const int rank = session.rank();
  const std::string host = session.mpi() != nullptr ? session.mpi()->host() : "this host";
  std::string text = name_of_lane("process_name", fmt::format("rank {} on {}", rank, host), rank, 0).dump();
  for (const auto& [lane, name] : kLanes)
    text += ",\n" + name_of_lane("thread_name", name, rank, static_cast<int>(lane)).dump();
  for (const core::Trace::Span& span : trace.spans()) text += ",\n" + as_json(span, rank).dump();
  return text;
}

}  // namespace

void start_together(Session& session, core::Trace& trace) {
  session.device().queue().synchronize();
  session.communicator().barrier();  // ranks may come late to the first, and leave it apart
  session.communicator().barrier();
  trace.start();
}

void require_trace_target(Session& session, const std::string& path) {
  dist::run_on_all(session.communicator(), [&] {
    if (session.rank() != 0) return;
    if (core::is_directory(path)) core::fail("--trace {}: is a folder; a file is wanted", path);
    const std::string folder = std::filesystem::path(path).parent_path().string();
    if (!folder.empty() && !core::is_directory(folder)) core::fail("--trace {}: there is no folder {}", path, folder);
  });
}

void write_trace(Session& session, const core::Trace& trace, const std::string& path) {
  std::string mine;
  dist::run_on_all(session.communicator(), [&] { mine = events_of_rank(session, trace); });
  const std::vector<std::string> all = session.communicator().all_gather_bytes(mine);
  dist::run_on_all(session.communicator(), [&] {
    if (session.rank() != 0) return;
    core::AtomicFile file(path);
    file.write("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
    for (std::size_t rank = 0; rank < all.size(); ++rank) file.write((rank > 0 ? ",\n" : "") + all[rank]);
    file.write("\n]}\n");
    file.commit();
  });
}

}  // namespace muonp::launch
