// muonp bench step --trace: the file that Perfetto opens.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {
namespace {

using Json = nlohmann::json;

class StepTrace : public ProgramTest {
 protected:
  int needed_gpus() const override { return 2; }
  struct Span {
    std::string name;
    double begin, end;  // microseconds
  };
  struct Lane {
    std::string name;
    std::vector<Span> spans;  // as they stand in the file
  };
  using Lanes = std::map<std::pair<int, std::string>, Lane>;  // by rank and name of the lane

  // The trace and what is printed. Steps of the size that phases are well above what a moment takes.
  void measure(int ranks, const std::string& more) {
    const std::string sizes = test::on_gpu() ? "" : " --set model.width=128 --set model.layers=4";
    const Outcome outcome = muonp("bench step tiny.yaml --repeats 1 --json --trace trace.json" + sizes + more, ranks);
    ASSERT_EQ(outcome.status, 0) << outcome.out << outcome.err;
    report_ = Json::parse(outcome.out);
    trace_ = Json::parse(read("trace.json"));
    lanes_ = lanes_of(trace_);
  }
  static Lanes lanes_of(const Json& trace) {
    std::map<std::pair<int, int>, std::string> names;
    Lanes lanes;
    for (const Json& event : trace.at("traceEvents")) {
      const std::pair<int, int> thread{event.at("pid"), event.at("tid")};
      if (event.at("ph") == "M") {
        if (event.at("name") != "thread_name") continue;
        names[thread] = event.at("args").at("name");
        lanes[{thread.first, names[thread]}];
        continue;
      }
      EXPECT_EQ(event.at("ph"), "X") << event;
      const double begin = event.at("ts"), duration = event.at("dur");
      EXPECT_GE(duration, 0) << event;
      lanes[{thread.first, names.at(thread)}].spans.push_back({event.at("name"), begin, begin + duration});
    }
    return lanes;
  }
  // On one thread a span lies within another or beside it; ends are sums of two numbers that were rounded.
  static void expect_nested(const std::vector<Span>& spans, const std::string& where) {
    std::vector<Span> open;
    for (const Span& s : spans) {
      while (!open.empty() && open.back().end <= s.begin + 1e-3) open.pop_back();
      if (!open.empty()) {
        EXPECT_GE(s.begin, open.back().begin) << where << ": " << s.name << " in " << open.back().name;
        EXPECT_LE(s.end, open.back().end + 1e-3) << where << ": " << s.name << " in " << open.back().name;
      }
      open.push_back(s);
    }
  }
  double seconds(int rank, const std::string& lane, const std::string& name) const {
    double sum = 0;
    for (const Span& s : lanes_.at({rank, lane}).spans)
      if (s.name == name) sum += 1e-6 * (s.end - s.begin);
    return sum;
  }
  // Of the phase `inner` while `outer` is under way.
  double seconds_within(int rank, const std::string& outer, const std::string& inner) const {
    double sum = 0;
    for (const Span& o : lanes_.at({rank, "compute"}).spans)
      for (const Span& i : lanes_.at({rank, "compute"}).spans)
        if (o.name == outer && i.name == inner && o.begin <= i.begin && i.end <= o.end + 1e-3)
          sum += 1e-6 * (i.end - i.begin);
    return sum;
  }
  void expect_reported(const std::string& key, double traced) const {
    const double reported = report_.at(key);
    EXPECT_NEAR(traced, reported, 0.1 * reported + 0.003) << key;
  }
  void expect_whole(int ranks) const {
    EXPECT_EQ(lanes_.size(), static_cast<std::size_t>(3 * ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      for (const char* lane : {"host", "compute"})
        for (const char* phase :
             {"step", "forward", "backward", "gradient norm and loss", "update", "spectral", "communication", "weights"})
          EXPECT_TRUE(std::ranges::any_of(lanes_.at({rank, lane}).spans, [&](const Span& s) { return s.name == phase; }))
              << phase << " on lane " << lane << " of rank " << rank;
      std::set<std::string> operations;
      for (const Span& s : lanes_.at({rank, "communication"}).spans)
        operations.insert(s.name.substr(0, s.name.find_first_of("( ")));
      for (const char* operation : {"all_reduce", "reduce_scatter", "all_gather", "exchange"})
        EXPECT_TRUE(operations.contains(operation)) << operation << " of rank " << rank;
    }
    for (const auto& [key, lane] : lanes_) {
      expect_nested(lane.spans, fmt::format("lane {} of rank {}", key.second, key.first));
      EXPECT_TRUE(std::ranges::all_of(lane.spans, [](const Span& s) { return s.begin >= 0; }));
    }
  }
  void expect_sums() const {  // of rank 0, whose step is printed
    expect_reported("forward_seconds", seconds(0, "compute", "forward") - seconds_within(0, "forward", "communication"));
    expect_reported("backward_seconds", seconds(0, "compute", "backward") - seconds_within(0, "backward", "communication"));
    expect_reported("spectral_seconds", seconds(0, "compute", "spectral"));
    expect_reported("communication_seconds", seconds(0, "compute", "communication"));
    expect_reported("seconds_median", seconds(0, "host", "step"));
  }

  Json report_, trace_;
  Lanes lanes_;
};

TEST_F(StepTrace, HasEveryRankAndPhaseNestedAndAsLongAsReported) {
  for (const auto& [ranks, overlap] : {std::pair{1, false}, {2, false}, {2, true}}) {
    SCOPED_TRACE(fmt::format("{} ranks, overlap {}", ranks, overlap));
    measure(ranks, fmt::format(" --set parallel.overlap={}", overlap));
    if (HasFatalFailure()) return;
    expect_whole(ranks);
    expect_sums();
  }
}

// Ranks count from the same moment: what they do together in a step lies at the same time in it.
TEST_F(StepTrace, RanksMeetInTheirCommunication) {
  measure(2, "");
  if (HasFatalFailure()) return;
  const auto last = [&](int rank) {
    const std::vector<Span>& spans = lanes_.at({rank, "communication"}).spans;
    const auto found = std::ranges::find_if(
        spans.rbegin(), spans.rend(), [](const Span& s) { return s.name.starts_with("all_reduce(sum) of 3 doubles"); });
    EXPECT_NE(found, spans.rend());
    return found->end;
  };
  EXPECT_NEAR(last(0), last(1), 20000) << "microseconds; ranks leave an operation together";
}

TEST_F(StepTrace, BadTargetsAreRefusedBeforeAnythingIsMeasured) {
  core::make_directories(path("folder"));
  for (const auto& [target, what] :
       {std::pair{"folder", "is a folder"}, {"nowhere/trace.json", "there is no folder nowhere"}}) {
    const Outcome outcome = muonp(fmt::format("bench step tiny.yaml --repeats 100000 --trace {}", target), 2);
    EXPECT_NE(outcome.status, 0);
    EXPECT_NE(outcome.err.find(fmt::format("--trace {}: {}", target, what)), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace muonp::e2e
