#include "launch/train/spectra_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launch/commands/spectra_table.h"
#include "launch/train/metrics.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using nlohmann::json;
using optim::MatrixRecord;
using testing::HasSubstr;
using testing::Not;

MatrixRecord record(const std::string& name, const std::string& kind, double stable) {
  const optim::spectral::Spectrum s{.norm = 1.0 / 3, .stable_rank = stable, .sigma = {0, 0.25, 0.5, 0.75, 1}};
  return {name, kind, 3, 2, {s, s, s, optim::spectral::Alignment{.cosine = -0.5, .gram = 0.125}}, std::nullopt};
}

TEST(SpectraLine, HasEveryMatrixAndTheMeansOfKinds) {
  std::vector<MatrixRecord> records = {record("a.0.w", "a.w", 2), record("a.1.w", "a.w", 5), record("b[q]", "b[q]", 7)};
  records[2].feedback = optim::FeedbackFigures{.alpha_to_owner = 0.75, .alpha_to_workers = 0.5, .lag = 0.25, .gap = 1e-3};
  const json line = json::parse(spectra_line(10, 0.5, records));
  EXPECT_EQ(line.at("step"), 10);
  EXPECT_EQ(line.at("spectra_seconds"), 0.5);
  EXPECT_EQ(line.at("spectra").size(), 3u);
  const json& first = line.at("spectra").at("a.0.w");
  EXPECT_EQ(first.at("kind"), "a.w");
  EXPECT_EQ(first.at("rows"), 3);
  EXPECT_EQ(first.at("cols"), 2);
  EXPECT_EQ(first.at("momentum").at("norm"), 0.333333);
  EXPECT_EQ(first.at("update").at("sigma_10"), 0.25);
  EXPECT_EQ(first.at("alignment").at("gram"), 0.125);
  EXPECT_FALSE(first.contains("feedback"));
  EXPECT_EQ(line.at("spectra").at("b[q]").at("feedback").at("gap"), 1e-3);
  EXPECT_EQ(line.at("spectra.a.w.weight.stable_rank"), 3.5);
  EXPECT_EQ(line.at("spectra.b[q].weight.sigma_max"), 1);
  EXPECT_EQ(line.at("spectra.b[q].feedback.lag"), 0.25);
  EXPECT_EQ(line.at("spectra.a.w.alignment.cosine"), -0.5);
  EXPECT_FALSE(line.contains("spectra.a.w.feedback.lag"));
}

TEST(SpectraLine, LeavesOutWhatIsNotFinite) {
  MatrixRecord broken = record("a.0.w", "a.w", 2);
  broken.spectra.weight.reset();
  broken.spectra.alignment.reset();
  const MatrixRecord good = record("a.1.w", "a.w", 5);
  const json line = json::parse(spectra_line(1, 0, std::vector{broken, good}));
  EXPECT_FALSE(line.at("spectra").at("a.0.w").contains("weight"));
  EXPECT_FALSE(line.at("spectra").at("a.0.w").contains("alignment"));
  EXPECT_EQ(line.at("spectra.a.w.weight.stable_rank"), 5);  // of those that have it
  EXPECT_EQ(line.at("spectra.a.w.momentum.stable_rank"), 3.5);
}

class SpectraTable : public test::FileTest {};

TEST_F(SpectraTable, HasTheLastValuesOfEveryKindAndRun) {
  std::vector<RunHistory> runs;
  for (const double stable : {2.0, 4.0}) {
    const std::string file = fmt::format("{}.jsonl", stable);
    MetricsWriter writer(path(file), 1);
    for (const std::int64_t step : {10, 20}) {
      writer.write({{"step", step}, {"loss", 1.0}});
      writer.write_line(spectra_line(step, 0, std::vector{record("x.0.w", "x.w", stable + static_cast<double>(step))}));
    }
    runs.push_back({fmt::format("run {}", stable), read_metrics(path(file))});
  }
  runs.push_back({"none", {}});
  const std::string table = spectra_table(runs);
  EXPECT_THAT(table, HasSubstr("x.w"));
  EXPECT_THAT(table, HasSubstr("run 2"));
  EXPECT_THAT(table, HasSubstr("  22 "));
  EXPECT_THAT(table, HasSubstr("  24 "));
  EXPECT_THAT(table, Not(HasSubstr("  12 ")));
  EXPECT_THAT(table, Not(HasSubstr("none")));
  EXPECT_THAT(table, Not(HasSubstr("lag")));
  EXPECT_EQ(spectra_table({&runs[2], 1}), "");
}

}  // namespace
}  // namespace muonp::launch
