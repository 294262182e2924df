// GoogleTest's main for ranks: rank 0 prints; the failures of other ranks are gathered after each test,
// printed there with their rank, and fail the test on rank 0. Whatever keeps the tests from running is a
// failure, never a skip.
//
// --ranks=N: how many ranks there must be (a program that was started without its launcher must not pass).
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/base/hash.h"
#include "dist/comm/agreement.h"
#include "ranks.h"

namespace muonp::test {

namespace {

std::unique_ptr<dist::Communicator> test_communicator;
const dist::MpiSession* the_session = nullptr;

class RankListener final : public testing::EmptyTestEventListener {
 public:
  explicit RankListener(dist::Communicator& reports) : reports_(reports) {}

  void OnTestStart(const testing::TestInfo& test) override {
    failures_.clear();
    where_ = std::string(test.test_suite_name()) + "." + test.name();
    guarded([&] { test_communicator = dist::make_mpi(*the_session, kRankTimeout); });
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const char* file = result.file_name() == nullptr ? "unknown file" : result.file_name();
    failures_ += fmt::format("{}:{}: {}\n{}\n", file, result.line_number(),
                             result.fatally_failed() ? "fatal failure" : "failure", result.message());
  }

  void OnTestEnd(const testing::TestInfo&) override {
    guarded([&] {
      test_communicator.reset();
      const auto all = reports_.all_gather_bytes(failures_);
      if (reports_.rank() != 0) return;
      for (std::size_t r = 1; r < all.size(); ++r)
        if (!all[r].empty()) ADD_FAILURE() << "on rank " << r << " of " << all.size() << ":\n" << all[r];
    });
  }

 private:
  template <class F>
  void guarded(const F& f) {
    try {
      f();
    } catch (const std::exception& e) {
      the_session->abort_all(fmt::format("around test {}: {}\n{}", where_, e.what(), failures_));
    }
  }
  dist::Communicator& reports_;
  std::string failures_, where_;
};

int expected_ranks(int argc, char** argv) {
  const std::string flag = "--ranks=";
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]).starts_with(flag)) return std::atoi(argv[i] + flag.size());
  return 0;
}

std::string names_of_selected_tests() {
  std::string names;
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  for (int s = 0; s < unit.total_test_suite_count(); ++s)
    for (int t = 0; t < unit.GetTestSuite(s)->total_test_count(); ++t)
      names += fmt::format("{}.{}\n", unit.GetTestSuite(s)->name(), unit.GetTestSuite(s)->GetTestInfo(t)->name());
  return names;
}

int run(const dist::MpiSession& session, int expected) {
  // Longer than the tests' own: a rank that times out in a test reports that before its report is given up.
  const auto reports = dist::make_mpi(session, 3 * kRankTimeout);
  if (session.size() != expected)
    throw dist::AgreedError(fmt::format("{} ranks are running where --ranks={} are expected", session.size(), expected));
  const std::string names = names_of_selected_tests();
  const auto length = static_cast<std::int64_t>(names.size());
  dist::require_agreement(*reports, "the list of tests", core::hash_bytes(names.data(), length), names);

  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (session.rank() != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new RankListener(*reports));
  int status = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    if (session.rank() == 0) std::fprintf(stderr, "no test was selected\n");
    status = 1;
  }
  return dist::all_agree(*reports, status == 0) ? 0 : 1;
}

}  // namespace

dist::Communicator& ranks() { return *test_communicator; }
const dist::MpiSession& session() { return *the_session; }

int rank_main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int status = 1;
  dist::MpiSession session;
  the_session = &session;
  try {
    status = run(session, expected_ranks(argc, argv));
  } catch (const dist::AgreedError& e) {
    if (session.rank() == 0) std::fprintf(stderr, "%s\n", e.what());
  } catch (const std::exception& e) {
    session.abort_all(e.what());
  }
  session.close();
  return status;
}

}  // namespace muonp::test

int main(int argc, char** argv) {
  try {
    return muonp::test::rank_main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "the test program cannot start: %s\n", e.what());
    return 1;
  }
}
