// Marked ids in a file, and as sequences that a model is trained on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/rng.h"
#include "core/data/batches.h"
#include "core/data/finetuning/example_sequences.h"
#include "core/data/finetuning/packing.h"
#include "core/files/files.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

using Ids = std::vector<std::int32_t>;

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

struct Read {
  Ids inputs, targets, begins;
};

Read read(const Sequences& sequences, std::int64_t i) {
  const std::size_t n = at(sequences.length());
  Read r{Ids(n, 99), Ids(n, 99), Ids(sequences.packed() ? n : 0, 99)};
  sequences.read(i, {r.inputs, r.targets, r.begins});
  return r;
}

ExampleStore store_of(const std::string& path, const std::vector<MarkedIds>& examples) {
  ExampleFileWriter writer(path);
  for (const MarkedIds& e : examples) writer.write(e);
  writer.commit({});
  return ExampleStore(path);
}

// Example k has `length` ids, which say where they are; the first half is not learned.
MarkedIds numbered(std::int32_t k, std::int32_t length) {
  MarkedIds ids;
  for (std::int32_t i = 0; i < length; ++i) ids.push_back(i < length / 2 ? ~(100 * k + i) : 100 * k + i);
  return ids;
}

}  // namespace

TEST(ExampleFile, GivesBackWhatWasWritten) {
  const TemporaryFolder folder;
  ExampleFileWriter writer(folder / "a.examples");
  writer.write({~5, ~0, 7, 70000});
  writer.write({1, 2, ~3});
  writer.commit({.truncated = 2, .broken = 3, .with_tools = 1});
  const ExampleStore store(folder / "a.examples");
  ASSERT_EQ(store.size(), 2);
  Ids ids;
  store.read(0, ids);
  EXPECT_EQ(ids, (Ids{~5, ~0, 7, 70000}));
  store.read(1, ids);
  EXPECT_EQ(ids, (Ids{1, 2, ~3}));
  EXPECT_EQ(store.counted(0), 2);
  EXPECT_EQ(store.counted(1), 1);  // the first id follows nothing
  EXPECT_EQ(store.tokens(1), 3);
  const ExampleCounts& c = store.counts();
  EXPECT_EQ((std::vector{c.examples, c.tokens, c.counted, c.longest, c.largest_id, c.truncated, c.broken, c.with_tools}),
            (std::vector<std::int64_t>{2, 7, 3, 4, 70000, 2, 3, 1}));
  EXPECT_NE(store.hash(), store_of(folder / "b.examples", {{~5, ~0, 7}, {70000, 1, 2, ~3}}).hash());
}

TEST(ExampleFile, DamageIsNamed) {
  const TemporaryFolder folder;
  const std::string file = folder / "a.examples";
  store_of(file, {{1, 2, 3}, {4, 5}});
  const std::string good = read_file(file);
  const auto refused = [&](std::string content) {
    put(file, content);
    return error_of([&] { ExampleStore{file}; });
  };
  EXPECT_THAT(refused("text"), HasSubstr("a.examples is no file of encoded examples"));
  EXPECT_THAT(refused(good.substr(0, good.size() - 4)), HasSubstr("truncated or altered"));
  for (std::size_t i = 128; i < good.size(); i += 4) {
    if (i >= 128 + 20 && i < 128 + 24) continue;  // the filler
    if (i >= good.size() - 8) continue;           // numbers of counted targets, of which each batch counts its own
    std::string altered = good;
    altered[i] = static_cast<char>(altered[i] ^ 0x40);
    EXPECT_THAT(refused(altered), HasSubstr("altered")) << "byte " << i;
  }
}

TEST(Packing, EveryDocumentOnceAndBestFit) {
  EXPECT_THAT(pack(std::vector<std::int32_t>{6, 3, 5, 4, 2}, 10).begins, ElementsAre(0, 2, 5));
  EXPECT_THAT(pack(std::vector<std::int32_t>{6, 3, 5, 4, 2}, 10).documents, ElementsAre(0, 3, 1, 2, 4));
  std::vector<std::int32_t> lengths;
  for (std::uint64_t i = 0; i < 5000; ++i) lengths.push_back(1 + static_cast<std::int32_t>(random_below(1, 2, i, 128)));
  const Packing packing = pack(lengths, 128);
  std::multiset<std::int32_t> seen(packing.documents.begin(), packing.documents.end());
  EXPECT_EQ(seen.size(), lengths.size());
  EXPECT_EQ(std::set<std::int32_t>(seen.begin(), seen.end()).size(), lengths.size());
  for (std::int64_t s = 0; s < packing.sequences(); ++s) {
    std::int64_t used = 0;
    for (std::int64_t i = packing.begins[at(s)]; i < packing.begins[at(s + 1)]; ++i)
      used += lengths[at(packing.documents[at(i)])];
    EXPECT_LE(used, 128);
  }
  const std::int64_t total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  EXPECT_LE(packing.sequences(), (total + 127) / 128 * 102 / 100);  // nearly no room is left
}

TEST(ExampleSequences, OneASequenceWithPadding) {
  const TemporaryFolder folder;
  const ExampleStore store = store_of(folder / "a.examples", {{~1, ~2, 3, 4}, {5, 6}});
  const SequencesHandle single = make_example_sequences(store, 0, 2, 4, false, "data.train: a");
  ASSERT_EQ(single->count(), 2);
  EXPECT_FALSE(single->packed());
  EXPECT_THAT(read(*single, 0).inputs, ElementsAre(1, 2, 3, 0));
  EXPECT_THAT(read(*single, 0).targets, ElementsAre(-1, 3, 4, -1));
  EXPECT_THAT(read(*single, 1).inputs, ElementsAre(5, 0, 0, 0));
  EXPECT_THAT(read(*single, 1).targets, ElementsAre(6, -1, -1, -1));
  EXPECT_EQ(single->counted(0), 2);
  EXPECT_EQ(make_example_sequences(store, 1, 2, 4, false, "data.train: a")->counted(0), 1);
  EXPECT_THAT(error_of([&] { make_example_sequences(store, 0, 2, 2, false, "data.train: a"); }),
              HasSubstr("data.train: a: an example of 4 tokens does not fit into a sequence of 2"));
  EXPECT_THAT(error_of([&] { make_example_sequences(store, 1, 1, 4, true, "data.train: a"); }), HasSubstr("has no example"));
}

TEST(ExampleSequences, PackedDocumentsBeginAnew) {
  const TemporaryFolder folder;
  const ExampleStore store = store_of(folder / "a.examples", {{~1, ~2, 3, 4}, {5, 6, 7}, {8, 9}});
  const SequencesHandle packed = make_example_sequences(store, 0, 3, 7, true, "data.train: a");
  ASSERT_EQ(packed->count(), 1);
  const Read r = read(*packed, 0);
  EXPECT_THAT(r.inputs, ElementsAre(1, 2, 3, 5, 6, 8, 0));
  EXPECT_THAT(r.targets, ElementsAre(-1, 3, 4, 6, 7, 9, -1));
  EXPECT_THAT(r.begins, ElementsAre(0, 0, 0, 3, 3, 5, 6));
  EXPECT_EQ(packed->counted(0), 5);
}

TEST(ExampleSequences, CountedIsWhatIsRead) {
  const TemporaryFolder folder;
  std::vector<MarkedIds> examples;
  for (std::int32_t k = 0; k < 40; ++k) examples.push_back(numbered(k, 2 + k * k % 13));
  const ExampleStore store = store_of(folder / "a.examples", examples);
  for (const bool pack : {false, true}) {
    const SequencesHandle sequences = make_example_sequences(store, 3, 40, 16, pack, "");
    std::int64_t counted = 0, expected = 0;
    for (std::int64_t i = 0; i < sequences->count(); ++i) {
      EXPECT_EQ(counted_targets(read(*sequences, i).targets), sequences->counted(i));
      counted += sequences->counted(i);
    }
    for (std::int64_t d = 3; d < 40; ++d) expected += store.counted(d);
    EXPECT_EQ(counted, expected);
  }
}

TEST(MixedOrder, OnePartOfWeightOneIsSampleOrder) {
  const SampleOrder one(37, 8, 5, true);
  const MixedOrder mixed({{37, 1}}, 8, 5, true);
  for (std::int64_t step = 0; step < 20; ++step)
    for (std::int64_t i = 0; i < 8; ++i) ASSERT_EQ(mixed.place(step, i), (MixedOrder::Place{0, one.window(step, i)}));
}

TEST(MixedOrder, WeightsSayHowOftenEachIsSeen) {
  const MixedOrder order({{10, 1}, {6, 3}, {20, 0.25}, {3, 1.0 / 3}}, 1, 9, true);
  ASSERT_EQ(order.epoch_samples(), 10 + 18 + 5 + 1);
  std::map<std::pair<std::size_t, std::int64_t>, int> all;
  for (std::int64_t epoch = 0; epoch < 12; ++epoch) {
    std::map<std::pair<std::size_t, std::int64_t>, int> seen;
    for (std::int64_t i = 0; i < order.epoch_samples(); ++i) {
      const MixedOrder::Place at = order.place(epoch * order.epoch_samples() + i, 0);
      ++seen[{at.part, at.index}];
      ++all[{at.part, at.index}];
    }
    for (std::int64_t k = 0; k < 10; ++k) EXPECT_EQ((seen[{0, k}]), 1);
    for (std::int64_t k = 0; k < 6; ++k) EXPECT_EQ((seen[{1, k}]), 3);
    for (const auto& [place, times] : seen)
      if (place.first == 2) {
        EXPECT_EQ(times, 1);
      }
  }
  for (std::int64_t k = 0; k < 20; ++k) EXPECT_EQ((all[{2, k}]), 3);  // of 12 epochs a quarter
  for (std::int64_t k = 0; k < 3; ++k) EXPECT_EQ((all[{3, k}]), 4);
}

TEST(MixedOrder, UnshuffledPartsFollowEachOther) {
  const MixedOrder order({{2, 1}, {3, 2}}, 4, 9, false);
  std::vector<std::int64_t> seen;
  for (std::int64_t i = 0; i < 8; ++i)
    seen.push_back(10 * static_cast<std::int64_t>(order.place(i / 4, i % 4).part) + order.place(i / 4, i % 4).index);
  EXPECT_THAT(seen, ElementsAre(0, 1, 10, 11, 12, 10, 11, 12));
}

// Whoever asks for whatever part of a step, at whatever number of ranks, gets the same samples; and all of an epoch are
// seen.
TEST(Batches, ExamplesAreSharedOutAlikeOverRanksAndAResume) {
  const TemporaryFolder folder;
  std::vector<MarkedIds> a, b;
  for (std::int32_t k = 0; k < 30; ++k) (k % 3 ? a : b).push_back(numbered(k, 2 + k % 7));
  const auto train = [&](bool packed) {
    return TrainBatches({{make_example_sequences(store_of(folder / "a.examples", a), 0, std::ssize(a), 8, packed, "a"), 1},
                         {make_example_sequences(store_of(folder / "b.examples", b), 0, std::ssize(b), 8, packed, "b"), 2}},
                        12, 3, true);
  };
  for (const bool packed : {false, true}) {
    const TrainBatches whole = train(packed), again = train(packed);
    for (std::int64_t step = 0; step < 9; ++step) {
      const auto batch = [&](std::int64_t rows) {
        return Read{Ids(at(8 * rows)), Ids(at(8 * rows)), Ids(packed ? at(8 * rows) : 0)};
      };
      Read one = batch(12);
      whole.fill_batch(step, 0, 12, {one.inputs, one.targets, one.begins});
      EXPECT_EQ(counted_targets(one.targets), whole.counted(step));
      const std::int64_t rows = step % 2 ? 3 : 4;
      Read parts;
      for (std::int64_t first = 0; first < 12; first += rows) {
        Read part = batch(rows);
        again.fill_batch(step, first, rows, {part.inputs, part.targets, part.begins});
        parts.inputs.insert(parts.inputs.end(), part.inputs.begin(), part.inputs.end());
        parts.targets.insert(parts.targets.end(), part.targets.begin(), part.targets.end());
        parts.begins.insert(parts.begins.end(), part.begins.begin(), part.begins.end());
      }
      EXPECT_EQ(parts.inputs, one.inputs);
      EXPECT_EQ(parts.targets, one.targets);
      EXPECT_EQ(parts.begins, one.begins);
    }
  }
}
