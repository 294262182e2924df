#include "core/files/checkpoint_pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

struct Whole {
  std::string name;
  Shape shape;
  Dtype dtype;
};
const std::vector<Whole> kTensors{
    {"embedding", {17, 5}, Dtype::float32}, {"blocks.0.up.weight/momentum", {7, 11}, Dtype::bfloat16},
    {"norm", {3}, Dtype::float16},          {"counts", {23}, Dtype::int32},
    {"odd", {1}, Dtype::bfloat16},          {"nothing", {0, 4}, Dtype::float32}};

// Element i of tensor t: a small integer, exact in every dtype.
float value_of(std::size_t t, std::int64_t i) {
  return static_cast<float>((static_cast<std::int64_t>(t) * 31 + i * 7) % 199 - 99);
}

void append(std::vector<char>& bytes, Dtype dtype, float value) {
  const auto add = [&](const auto& x) {
    bytes.insert(bytes.end(), reinterpret_cast<const char*>(&x), reinterpret_cast<const char*>(&x) + sizeof(x));
  };
  if (dtype == Dtype::float32) add(value);
  if (dtype == Dtype::bfloat16) add(bfloat16(value));
  if (dtype == Dtype::float16) add(float16(value));
  if (dtype == Dtype::int32) add(static_cast<std::int32_t>(value));
}

std::vector<char> bytes_of(std::size_t t, std::int64_t begin, std::int64_t end) {
  std::vector<char> bytes;
  for (std::int64_t i = begin; i < end; ++i) append(bytes, kTensors[t].dtype, value_of(t, i));
  return bytes;
}

std::int64_t cut(std::int64_t size, int part, int parts) { return size * part / parts; }

// All tensors laid end to end and cut evenly, as flat buckets are: pieces straddle tensors and some are
// empty.
Checkpoint save(const std::string& directory, int ranks) {
  const CheckpointStore store(directory);
  CheckpointWriter writer = store.begin(1);
  std::vector<CheckpointEntry> entries;
  std::int64_t total = 0;
  for (const Whole& w : kTensors) total += element_count(w.shape);
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<std::vector<char>> data;
    std::vector<TensorPiece> pieces;
    std::int64_t start = 0;
    for (std::size_t t = 0; t < kTensors.size(); ++t) {
      const std::int64_t size = element_count(kTensors[t].shape);
      const std::int64_t begin = std::clamp<std::int64_t>(cut(total, rank, ranks) - start, 0, size);
      const std::int64_t end = std::clamp<std::int64_t>(cut(total, rank + 1, ranks) - start, 0, size);
      data.push_back(bytes_of(t, begin, end));
      pieces.push_back({kTensors[t].name, kTensors[t].shape, kTensors[t].dtype, begin, end, data.back().data()});
      start += size;
    }
    entries.push_back(write_pieces(CheckpointPart(directory, 1), piece_file_name("optimizer", rank), pieces));
  }
  writer.commit(entries, "{}");
  return store.open(1);
}

// One file with the given pieces of float32 zeros.
std::string error_with(const std::vector<std::vector<TensorPiece>>& files) {
  const TemporaryFolder folder;
  const std::vector<float> zeros(1000);
  const CheckpointStore store(folder.path());
  CheckpointWriter writer = store.begin(1);
  std::vector<CheckpointEntry> entries;
  for (std::vector<TensorPiece> pieces : files) {
    for (TensorPiece& p : pieces) p.data = zeros.data();
    entries.push_back(write_pieces(CheckpointPart(folder.path(), 1),
                                   piece_file_name("optimizer", static_cast<int>(entries.size())), pieces));
  }
  writer.commit(entries, "{}");
  return error_of([&] {
    std::vector<float> to(1000);
    const PieceReader reader(store.open(1), "optimizer");
    reader.read_float("w", {10}, Dtype::float32, 0, 10, to.data());
  });
}

}  // namespace

TEST(CheckpointPieces, Pitfall36_ReadAtAnyNumberOfRanks) {
  for (const int writers : {1, 3, 4}) {
    const TemporaryFolder folder;
    const Checkpoint checkpoint = save(folder.path(), writers);
    const PieceReader reader(checkpoint, "optimizer-");
    EXPECT_EQ(reader.names().size(), kTensors.size());
    for (const int readers : {1, 2, 3, 5, 7}) {
      for (int rank = 0; rank < readers; ++rank) {
        for (std::size_t t = 0; t < kTensors.size(); ++t) {
          const Whole& w = kTensors[t];
          const std::int64_t size = element_count(w.shape);
          const std::int64_t begin = cut(size, rank, readers), end = cut(size, rank + 1, readers);
          const std::vector<char> expected = bytes_of(t, begin, end);
          std::vector<char> raw(expected.size() + 1, '#');  // the last one is a guard
          reader.read_raw(w.name, w.shape, w.dtype, begin, end, raw.data());
          EXPECT_EQ(raw.back(), '#');
          raw.pop_back();
          EXPECT_EQ(raw, expected) << w.name << " written by " << writers << ", read by " << readers;
          if (w.dtype == Dtype::int32) continue;
          std::vector<float> floats(static_cast<std::size_t>(end - begin));
          reader.read_float(w.name, w.shape, w.dtype, begin, end, floats.data());
          for (std::int64_t i = begin; i < end; ++i)
            ASSERT_EQ(floats[static_cast<std::size_t>(i - begin)], value_of(t, i)) << w.name << " element " << i;
        }
      }
    }
  }
}

TEST(CheckpointPieces, OnlyFilesThatHoldWhatIsReadAreOpened) {
  const TemporaryFolder folder;
  const Checkpoint checkpoint = save(folder.path(), 4);
  std::vector<std::string> index;  // as three ranks share it out
  for (std::size_t rank = 0; rank < 3; ++rank) index.push_back(index_pieces(checkpoint, "optimizer-", rank, 3));
  const auto open = [&] { return PieceReader(checkpoint, "optimizer-", index); };
  EXPECT_EQ(open().names(), PieceReader(checkpoint, "optimizer-").names());
  const auto in_file = [&](int rank) { return checkpoint.path() + "/" + piece_file_name("optimizer", rank); };
  for (const int rank : {1, 2, 3}) std::filesystem::remove(in_file(rank));
  const PieceReader reader = open();
  const Whole& first = kTensors[0];
  std::vector<char> raw(bytes_of(0, 0, 5).size());
  reader.read_raw(first.name, first.shape, first.dtype, 0, 5, raw.data());
  EXPECT_EQ(raw, bytes_of(0, 0, 5));
  std::vector<float> all(85);
  EXPECT_THAT(error_of([&] {
                reader.read_float("embedding", {17, 5}, Dtype::float32, 0, 85, all.data());
              }),
              HasSubstr("optimizer-00001"));
  EXPECT_THAT(error_of([&] { Checkpoint(checkpoint.path()); }), HasSubstr("optimizer-00001"));
  EXPECT_EQ(Checkpoint(checkpoint.path(), 0, 4).step(), 1);  // looks at its share of the files
}

TEST(CheckpointPieces, EveryIntervalOfAStraddlingTensor) {
  const TemporaryFolder folder;
  const Checkpoint checkpoint = save(folder.path(), 4);
  const PieceReader reader(checkpoint, "optimizer-");
  const std::int64_t size = element_count(kTensors[1].shape);
  for (std::int64_t begin = 0; begin <= size; ++begin)
    for (std::int64_t end = begin; end <= size; ++end) {
      std::vector<char> raw(static_cast<std::size_t>(2 * (end - begin)));
      reader.read_raw(kTensors[1].name, {7, 11}, Dtype::bfloat16, begin, end, raw.data());
      ASSERT_EQ(raw, bytes_of(1, begin, end));
    }
}

TEST(CheckpointPieces, Pitfall17_OtherShapeOrDtypeIsRefusedByName) {
  const TemporaryFolder folder;
  const Checkpoint checkpoint = save(folder.path(), 2);
  const PieceReader reader(checkpoint, "optimizer-");
  std::vector<float> to(100);
  const auto read = [&](const char* name, const Shape& shape, Dtype dtype) {
    return error_of([&] { reader.read_float(name, shape, dtype, 0, 1, to.data()); });
  };
  EXPECT_EQ(read("embedding", {17, 5}, Dtype::float32), "");
  EXPECT_THAT(read("embedding", {5, 17}, Dtype::float32),
              AllOf(HasSubstr("'embedding'"), HasSubstr("has shape [17, 5], this run needs [5, 17]")));
  EXPECT_THAT(read("embedding", {85}, Dtype::float32), HasSubstr("has shape [17, 5], this run needs [85]"));
  EXPECT_THAT(read("blocks.0.up.weight/momentum", {7, 11}, Dtype::float32),
              AllOf(HasSubstr("'blocks.0.up.weight/momentum'"), HasSubstr("has dtype bfloat16, this run needs float32")));
  EXPECT_THAT(read("absent", {1}, Dtype::float32), HasSubstr("has no tensor 'absent' in its optimizer-* files"));
  EXPECT_THROW(reader.read_float("embedding", {17, 5}, Dtype::float32, 80, 86, to.data()), InternalError);
  EXPECT_TRUE(reader.contains("norm"));
  EXPECT_EQ(reader.dtype("norm"), Dtype::float16);
  EXPECT_EQ(reader.shape("nothing"), (Shape{0, 4}));
}

TEST(CheckpointPieces, GapsAndOverlapsAreErrors) {
  const auto piece = [](std::int64_t begin, std::int64_t end) {
    return TensorPiece{"w", {10}, Dtype::float32, begin, end, nullptr};
  };
  EXPECT_EQ(error_with({{piece(0, 4)}, {piece(4, 10)}}), "");
  EXPECT_EQ(error_with({{piece(4, 10), piece(0, 4)}, {}}), "");
  EXPECT_THAT(error_with({{piece(0, 4)}, {piece(5, 10)}}),
              HasSubstr("elements [4, 5) of tensor 'w' [10] are in no optimizer* file"));
  EXPECT_THAT(error_with({{piece(0, 4)}, {}}), HasSubstr("elements [4, 10) of tensor 'w'"));
  EXPECT_THAT(error_with({{piece(1, 10)}}), HasSubstr("elements [0, 1) of tensor 'w'"));
  EXPECT_THAT(error_with({{piece(0, 5)}, {piece(4, 10)}}),
              AllOf(HasSubstr("element 4 of tensor 'w' is in two pieces"), HasSubstr("optimizer-00000"),
                    HasSubstr("optimizer-00001")));
  EXPECT_THAT(error_with({{piece(0, 4)}, {{"w", {2, 5}, Dtype::float32, 4, 10, nullptr}}}),
              HasSubstr("tensor 'w' is float32 [10] in"));
  EXPECT_THAT(error_with({{piece(0, 4)}, {{"w", {10}, Dtype::int32, 4, 10, nullptr}}}), HasSubstr("but int32 [10] in"));
}

TEST(CheckpointPieces, ForeignFilesAreRefused) {
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  const auto error_for = [&](const TensorSpec& spec, const std::map<std::string, std::string>& metadata) {
    CheckpointWriter writer = store.begin(1);
    const auto entry = CheckpointPart(folder.path(), 1).add_file("optimizer-0", 0, [&](AtomicFile& file) {
      SafetensorsWriter out(file, {spec}, metadata);
      out.write(std::string(static_cast<std::size_t>(spec.bytes()), 'x').data(), spec.bytes());
    });
    writer.commit(std::vector{entry}, "{}");
    return error_of([&] { PieceReader reader(store.open(1), "optimizer"); });
  };
  const TensorSpec w{"w@2", StoredType::f32, {4}};
  EXPECT_EQ(error_for(w, {{"w@2", R"({"begin":2,"end":6,"shape":[3,2]})"}}), "");
  EXPECT_THAT(error_for(w, {}), HasSubstr("'w@2' is no piece of a checkpoint"));
  for (const char* bad :
       {"", "7", R"({"begin":2,"end":6})", R"({"begin":3,"end":7,"shape":[9]})", R"({"begin":2,"end":6,"shape":[5]})",
        R"({"begin":2,"end":7,"shape":[9]})", R"({"begin":2,"end":6,"shape":[-3,-3]})",
        R"({"begin":2,"end":6,"shape":[4294967296,4294967296]})", R"({"begin":"2","end":6,"shape":[9]})"})
    EXPECT_THAT(error_for(w, {{"w@2", bad}}), HasSubstr("impossible interval")) << bad;
  EXPECT_THAT(error_for({"w@0", StoredType::u64, {1}}, {{"w@0", R"({"begin":0,"end":1,"shape":[1]})"}}),
              HasSubstr("dtype U64"));
}

TEST(CheckpointPieces, Pitfall40_ReadingCopiesOnlyWhatIsAskedFor) {
  constexpr std::int64_t kElements = 8 << 20;  // 32 MiB
  const TemporaryFolder folder;
  const CheckpointStore store(folder.path());
  {
    const std::vector<float> data(kElements, 1.0f);
    CheckpointWriter writer = store.begin(1);
    const TensorPiece piece{"w", {kElements}, Dtype::float32, 0, kElements, data.data()};
    writer.commit(std::vector{write_pieces(CheckpointPart(folder.path(), 1), "optimizer-0", {&piece, 1})}, "{}");
  }
  const auto allocated = [] {
    const struct mallinfo2 info = ::mallinfo2();
    return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
  };
  const std::int64_t before = allocated();
  std::int64_t peak = 0;
  const Checkpoint checkpoint = store.open(1);
  const PieceReader reader(checkpoint, "optimizer");
  std::vector<float> to(1000);
  for (std::int64_t at = 0; at + 1000 <= kElements; at += 1'000'000) {
    reader.read_float("w", {kElements}, Dtype::float32, at, at + 1000, to.data());
    EXPECT_EQ(to[999], 1.0f);
    peak = std::max(peak, allocated() - before);
  }
  EXPECT_LT(peak, 1 << 20);
}
