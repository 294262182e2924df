#include "dist/comm/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "core/base/hash.h"
#include "dist/comm/thread.h"
#include "dist/plan/shard_plan.h"
#include "tests/dist/expect_error.h"

namespace muonp::test {
namespace {

using dist::AgreedError;
using dist::Communicator;
using dist::run_ranks;
using testing::AllOf;
using testing::HasSubstr;

// Runs `call` on n ranks, expects the same AgreedError on all of them, and gives its message. The group stays
// usable.
template <class F>
std::string message_on_all(int n, const F& call) {
  std::mutex mutex;
  std::multiset<std::string> messages;
  run_ranks(n, [&](Communicator& comm) {
    try {
      call(comm);
    } catch (const AgreedError& e) {
      const std::lock_guard lock(mutex);
      messages.insert(e.what());
    }
    comm.barrier();
  });
  EXPECT_EQ(messages.size(), static_cast<std::size_t>(n));
  EXPECT_EQ(std::set<std::string>(messages.begin(), messages.end()).size(), 1u);
  return messages.empty() ? "" : *messages.begin();
}

TEST(Agreement, EqualHashesPass) {
  run_ranks(4, [](Communicator& comm) { dist::require_agreement(comm, "plan", 7, "text that is not looked at"); });
}

TEST(Agreement, Pitfall24_ADifferentPlanIsNamedOnAllRanks) {
  const std::string message = message_on_all(4, [](Communicator& comm) {
    const std::int64_t width = comm.rank() == 2 ? 33 : 32;
    const dist::ShardPlan plan({{"embedding", {50, 8}}, {"blocks.0.up", {width, 8}}, {"head", {8, 50}}}, 4, 400);
    dist::require_agreement(comm, "the shard plan", plan.hash(), plan.describe());
  });
  EXPECT_THAT(message, HasSubstr("the shard plan differs between ranks: line 3 is"));
  EXPECT_THAT(message, HasSubstr("on ranks 0, 1, 3: bucket 1: 256 of 256 elements used by blocks.0.up [32, 8]"));
  EXPECT_THAT(message, HasSubstr("on rank 2: bucket 1: 264 of 320 elements used by blocks.0.up [33, 8]"));
}

TEST(Agreement, LongLinesAreCutAroundTheDifference) {
  const std::string message = message_on_all(2, [](Communicator& comm) {
    std::string line(5000, 'x');
    if (comm.rank() == 1) line[3000] = 'Y';
    dist::require_agreement(comm, "list", static_cast<std::uint64_t>(comm.rank()), line);
  });
  EXPECT_LT(message.size(), 500u);
  EXPECT_THAT(message, HasSubstr("xY"));
}

TEST(Agreement, HashesAreShownWhenTheDescriptionsAreEqual) {
  const std::string message =
      message_on_all(3, [](Communicator& c) { dist::require_agreement(c, "weights", c.rank() == 1 ? 0xabc : 1, "same"); });
  EXPECT_THAT(message, AllOf(HasSubstr("weights differs"), HasSubstr("on rank 1: 0000000000000abc")));
}

TEST(Agreement, AMissingLineIsNamed) {
  const std::string message = message_on_all(2, [](Communicator& comm) {
    const auto r = static_cast<std::uint64_t>(comm.rank());
    dist::require_agreement(comm, "plan", r, r == 0 ? "a\nb" : "a");
  });
  EXPECT_THAT(message, AllOf(HasSubstr("line 2"), HasSubstr("on rank 1: (no such line)")));
}

TEST(Agreement, EqualListsPass) {
  run_ranks(4, [](Communicator& comm) { dist::require_same(comm, {{"a", "1"}, {"b", ""}}); });
}

TEST(Agreement, TheFirstValueThatDiffersIsNamedWithBothRanks) {
  const std::string message = message_on_all(5, [](Communicator& comm) {
    const bool other = comm.rank() >= 2;
    dist::require_same(comm, {{"run.steps", "10"}, {"optimizer.clip", other ? "0.1" : "1"}, {"z", other ? "1" : "2"}});
  });
  EXPECT_THAT(message, AllOf(HasSubstr("optimizer.clip differs between ranks: it is 1 on rank 0 of 5 ("),
                             HasSubstr("), 0.1 on rank 2 (")));
}

TEST(Agreement, AListThatLacksANameIsNamed) {
  const auto lists = [](const core::NamedValues& zero, const core::NamedValues& one) {
    return message_on_all(2, [&](Communicator& comm) { dist::require_same(comm, comm.rank() == 0 ? zero : one); });
  };
  EXPECT_THAT(lists({{"a", "1"}, {"b", "2"}}, {{"a", "1"}}),
              AllOf(HasSubstr("b differs between ranks: it is 2 on rank 0"), HasSubstr("nothing on rank 1")));
  EXPECT_THAT(lists({}, {{"a", ""}}),
              AllOf(HasSubstr("a differs between ranks: it is nothing on rank 0"), HasSubstr("'' on rank 1")));
  EXPECT_THAT(lists({{"a", "1"}}, {{"b", "1"}}),
              AllOf(HasSubstr("a differs between ranks: it is 1 on"), HasSubstr("not known on rank 1")));
}

TEST(Agreement, AllAgreeIsTheSameEverywhere) {
  run_ranks(3, [](Communicator& comm) {
    EXPECT_TRUE(dist::all_agree(comm, true));
    EXPECT_FALSE(dist::all_agree(comm, comm.rank() != 1));
    EXPECT_FALSE(dist::all_agree(comm, false));
  });
}

TEST(Agreement, Pitfall45_OneRankFailsAndAllThrowTheSame) {
  const std::string message = message_on_all(4, [](Communicator& comm) {
    dist::run_on_all(comm, [&] {
      if (comm.rank() == 1) core::fail("train.bin ends at byte 3");
      if (comm.rank() == 3) core::fail("train.bin is missing");
    });
  });
  EXPECT_THAT(message, AllOf(HasSubstr("rank 1 of 4 on "), HasSubstr(": train.bin ends at byte 3\n"),
                             HasSubstr("rank 3 of 4 on "), HasSubstr(": train.bin is missing")));
}

TEST(Agreement, EqualMessagesAreSaidOnce) {
  const auto all = [](Communicator& comm) { dist::run_on_all(comm, [] { core::fail("no such file"); }); };
  EXPECT_EQ(message_on_all(3, all), "no such file");
  const auto some = [](Communicator& comm) { dist::run_on_all(comm, [&] { MUONP_ASSERT(comm.rank() == 1, "a defect"); }); };
  EXPECT_THAT(message_on_all(3, some), AllOf(HasSubstr("ranks 0, 2: internal error: "), HasSubstr("a defect")));
}

TEST(Agreement, NoFailurePasses) {
  run_ranks(3, [](Communicator& comm) { dist::run_on_all(comm, [] {}); });
}

TEST(Hash, DependsOnEveryByteAndTheSeed) {
  std::string data(1000, 'a');
  const auto hash = [&](std::uint64_t seed) { return core::hash_bytes(data.data(), 1000, seed); };
  const std::uint64_t before = hash(0);
  EXPECT_EQ(hash(0), before);
  EXPECT_NE(hash(1), before);
  data[999] = 'b';
  EXPECT_NE(hash(0), before);
  EXPECT_EQ(core::hash_bytes(nullptr, 0), 0x2d06800538d394c2ull);  // XXH3's published value for no bytes
}

}  // namespace
}  // namespace muonp::test
