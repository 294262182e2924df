#include "launch/records/metrics_export.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "core/base/error.h"
#include "launch/records/crc32c.h"
#include "launch/records/event_file.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);            // the check value of CRC-32/ISCSI
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(Crc32c, TheMaskIsUndoneByItsInverse) {
  const std::uint32_t masked = masked_crc32c("123456789"), rotated = masked - 0xa282ead8u;
  EXPECT_EQ((rotated >> 17) | (rotated << 15), 0xe3069283u);
}

// A reader of its own: of frames, and of the messages' fields.
template <class Number>
Number number_at(const std::string& bytes, std::size_t offset) {
  Number value;
  if (offset + sizeof value > bytes.size()) throw std::runtime_error("the file ends amid a record");
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::vector<std::string> records_of(const std::string& bytes) {
  std::vector<std::string> records;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto length = number_at<std::uint64_t>(bytes, at);
    EXPECT_EQ(number_at<std::uint32_t>(bytes, at + 8), masked_crc32c(bytes.substr(at, 8)));
    records.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(number_at<std::uint32_t>(bytes, at + 12 + length), masked_crc32c(records.back()));
    at += 16 + length;
  }
  return records;
}

struct Field {
  std::uint64_t number = 0, wire = 0, value = 0;
  std::string bytes;
};

std::uint64_t varint_at(const std::string& bytes, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(at++));
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

std::vector<Field> fields_of(const std::string& message) {
  std::vector<Field> fields;
  for (std::size_t at = 0; at < message.size();) {
    Field field;
    const std::uint64_t key = varint_at(message, at);
    field.number = key >> 3, field.wire = key & 7;
    if (field.wire == 0) field.value = varint_at(message, at);
    const std::size_t size = field.wire == 1 ? 8 : field.wire == 5 ? 4 : field.wire == 2 ? varint_at(message, at) : 0;
    field.bytes = message.substr(at, size);
    at += size;
    fields.push_back(field);
  }
  return fields;
}

struct Scalar {
  std::int64_t step;
  double wall_time;
  std::string tag;
  float value;
};

std::vector<Scalar> scalars_of(const std::vector<std::string>& records) {
  std::vector<Scalar> all;
  for (const std::string& record : records) {
    Scalar scalar{};
    for (const Field& f : fields_of(record)) {
      if (f.number == 1) scalar.wall_time = number_at<double>(f.bytes, 0);
      if (f.number == 2) scalar.step = static_cast<std::int64_t>(f.value);
      if (f.number != 5) continue;
      for (const Field& value : fields_of(f.bytes)) {
        const auto parts = fields_of(value.bytes);
        scalar.tag = parts.at(0).bytes, scalar.value = number_at<float>(parts.at(1).bytes, 0);
        all.push_back(scalar);
      }
    }
  }
  return all;
}

class MetricsExport : public test::FileTest {
 protected:
  std::string metrics() const {
    return make("metrics.jsonl",
                "{\"step\":1,\"loss\":0.1,\"seconds\":10,\"skipped\":false}\n"
                "{\"step\":2,\"loss\":9,\"seconds\":11}\n"  // written again after a crash
                "{\"step\":2,\"loss\":null,\"seconds\":12,\"skipped\":true,\"note\":\"loss is \\\"nan\\\", so\"}\n"
                "{\"step\":2,\"val_loss\":3.5,\"eval.icl.exact\":12345678901234,\"s\":{\"w.0\":{\"rank\":7}}}\n"
                "{\"step\":300,\"loss\":1e-300,\"seconds\":14}\n{\"step\":301,\"los");
  }
};

TEST_F(MetricsExport, CsvHasARowAStepAndAColumnAKey) {
  const ExportReport report = export_csv(metrics(), path("a.csv"));
  EXPECT_EQ(report.rows, 3);
  EXPECT_EQ(report.columns, 8);
  EXPECT_EQ(test::get(path("a.csv")),
            "step,loss,seconds,skipped,note,val_loss,eval.icl.exact,s.w.0.rank\n"
            "1,0.1,10,0,,,,\n"
            "2,nan,12,1,\"loss is \"\"nan\"\", so\",3.5,12345678901234,7\n"
            "300,1e-300,14,,,,,\n");
}

TEST_F(MetricsExport, EventsReadBack) {
  const ExportReport report = export_tensorboard(metrics(), path("events"));
  EXPECT_EQ(report.file, path("events/events.out.tfevents.1.muonp"));
  const std::vector<std::string> records = records_of(test::get(report.file));
  ASSERT_THAT(records, SizeIs(5));
  EXPECT_EQ(report.rows, 5);
  const auto head = fields_of(records.front());
  EXPECT_EQ(head.back().number, 3u);
  EXPECT_EQ(head.back().bytes, "brain.Event:2");
  const std::vector<Scalar> scalars = scalars_of(records);
  ASSERT_THAT(scalars, SizeIs(11));
  EXPECT_EQ(scalars[0].tag, "loss");
  EXPECT_EQ(scalars[0].step, 1);
  EXPECT_EQ(scalars[0].value, 0.1f);
  EXPECT_TRUE(std::isnan(scalars[3].value));
  EXPECT_THAT(scalars[7], FieldsAre(2, ::testing::_, "eval/icl/exact", 12345678901234.f));
  EXPECT_EQ(scalars[8].tag, "s/w/0/rank");
  EXPECT_EQ(scalars[10].step, 300);
  EXPECT_EQ(report.columns, 6);
  EXPECT_DOUBLE_EQ(scalars[10].wall_time - scalars[0].wall_time, 4);
}

TEST_F(MetricsExport, ANewExportReplacesTheOldOne) {
  export_tensorboard(metrics(), path("events"));
  const std::string first = test::get(path("events/events.out.tfevents.1.muonp"));
  export_tensorboard(path("metrics.jsonl"), path("events"));
  EXPECT_EQ(test::get(path("events/events.out.tfevents.1.muonp")), first);
  EXPECT_EQ(test::entries_in(path("events")), 1);
}

TEST_F(MetricsExport, NothingToExportIsAnErrorThatLeavesNothing) {
  make("empty.jsonl", "{\"note\":\"no step\"}\n");
  for (const char* name : {"empty.jsonl", "none.jsonl"}) {
    EXPECT_THAT(test::message_of<core::Error>([&] { export_csv(path(name), path("a.csv")); }),
                HasSubstr("there is nothing to export yet"));
    EXPECT_THAT(test::message_of<core::Error>([&] { export_tensorboard(path(name), path("events")); }),
                HasSubstr("there is nothing to export yet"));
  }
  EXPECT_FALSE(std::filesystem::exists(path("a.csv")) || std::filesystem::exists(path("events")));
}

TEST_F(MetricsExport, ADamagedLineLeavesTheOldFile) {
  make("a.csv", "old");
  make("bad.jsonl", "{\"step\":1,\"loss\":1}\n{\"step\":2\n");
  EXPECT_THAT(test::message_of<core::Error>([&] { export_csv(path("bad.jsonl"), path("a.csv")); }),
              HasSubstr("bad.jsonl:2"));
  EXPECT_EQ(test::get(path("a.csv")), "old");
}

}  // namespace
}  // namespace muonp::launch
