#include "optim/rules/spectral_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;
using testing::HasSubstr;

namespace {

const Split kQkvRows{.name = "qkv", .parts = {"q", "k", "v"}};
const Split kQkvColumns{.name = "qkv", .columns = true, .parts = {"q", "k", "v"}};

class SpectralStepTest : public testing::Test {
 protected:
  test::TestDevice device = test::make_test_device(2);
  SvdPower* power = nullptr;

  SpectralStep make(ShapeScale scale = ShapeScale::match_rms, spectral::Exponent p = {1, 2}) {
    auto owned = std::make_unique<SvdPower>(p);
    power = owned.get();
    return SpectralStep(std::move(owned), scale);
  }

  MatrixInput input(std::string name, core::Shape shape, const Doubles& values, const Split* split = nullptr) {
    const core::Tensor in = tensor(*device, values);
    return {.name = std::move(name),
            .shape = std::move(shape),
            .split = split,
            .in = in,
            .out = core::Tensor::zeros(*device, {in.size()}, core::Dtype::float32, core::Category::other)};
  }

  // 0.2·√(mn)/‖Z‖·Z of one matrix in double precision.
  static Doubles expected(const Doubles& n, std::int64_t rows, std::int64_t cols, double p = 0.5) {
    Doubles z = spectral_power(n, rows, cols, p);
    const double factor = 0.2 * std::sqrt(static_cast<double>(rows * cols)) / norm(z);
    for (double& value : z) value *= factor;
    return z;
  }

  std::string message(SpectralStep& step, std::vector<MatrixInput> inputs) {
    try {
      step.compute(*device, 1, inputs);
    } catch (const core::Error& e) {
      return e.what();
    }
    return "no error";
  }
};

Doubles slice(const Doubles& a, std::int64_t begin, std::int64_t count) {
  return {a.begin() + begin, a.begin() + begin + count};
}

// Columns [begin, begin + count) of a rows × cols matrix.
Doubles columns(const Doubles& a, std::int64_t rows, std::int64_t cols, std::int64_t begin, std::int64_t count) {
  Doubles out;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = begin; c < begin + count; ++c) out.push_back(a[r * cols + c]);
  return out;
}

}  // namespace

TEST_F(SpectralStepTest, GivesEachMatrixItsScaledPowerAndLeavesTheInputAlone) {
  SpectralStep step = make();
  const std::vector<MatrixInput> inputs = {input("tall", {20, 8}, random(160, 1)), input("wide", {8, 20}, random(160, 2)),
                                           input("square", {12, 12}, random(144, 3))};
  std::vector<std::vector<float>> before;
  for (const MatrixInput& i : inputs) before.push_back(floats(i.in));
  step.compute(*device, 1, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const core::Shape& shape = inputs[i].shape;
    EXPECT_LT(relative_difference(doubles(inputs[i].out), expected(doubles(inputs[i].in), shape[0], shape[1])), 1e-6);
    EXPECT_EQ(floats(inputs[i].in), before[i]);
  }
}

TEST_F(SpectralStepTest, Pitfall16_MomentumIsBitEqualBeforeAndAfterTheStep) {
  SpectralStep step = make();
  const core::Tensor momentum = tensor(*device, random(30, 1)), gradient = tensor(*device, random(30, 2));
  muonp_momentum(device->queue(), {.nesterov = false}, 1.0, gradient, momentum);
  const std::vector<float> kept = floats(momentum);
  EXPECT_EQ(floats(gradient), kept);
  const std::vector<MatrixInput> inputs = {
      {.name = "w", .shape = {6, 5}, .in = gradient, .out = tensor(*device, Doubles(30, 0.0))}};
  step.compute(*device, 1, inputs);
  apply_update(device->queue(), gradient, {inputs[0].out}, 1.0, 0.0);
  EXPECT_EQ(floats(momentum), kept);
  EXPECT_EQ(message(step, {input("small", {1, 1}, {1})}), "no error");
  const std::vector<MatrixInput> in_place = {{.name = "w", .shape = {6, 5}, .in = momentum, .out = momentum}};
  EXPECT_THROW(step.compute(*device, 1, in_place), core::InternalError);
}

TEST_F(SpectralStepTest, Pitfall06_PartsAreSplitWhereTheConfigurationSaysSoOnly) {
  SpectralStep step = make();
  const Doubles n = random(24 * 8, 4);
  const MatrixInput whole = input("mlp", {24, 8}, n), fused = input("qkv", {24, 8}, n, &kQkvRows);
  step.compute(*device, 1, std::vector{whole, fused});
  EXPECT_LT(relative_difference(doubles(whole.out), expected(n, 24, 8)), 1e-6);
  for (int part = 0; part < 3; ++part)
    EXPECT_LT(relative_difference(slice(doubles(fused.out), part * 64, 64), expected(slice(n, part * 64, 64), 8, 8)), 1e-6);
}

TEST_F(SpectralStepTest, ColumnPartsAreMatricesOfTheirOwn) {
  SpectralStep step = make();
  const std::int64_t rows = 7, cols = 15;
  const Doubles n = random(rows * cols, 5);
  const MatrixInput fused = input("qkv", {rows, cols}, n, &kQkvColumns);
  step.compute(*device, 1, std::vector{fused});
  for (int part = 0; part < 3; ++part)
    EXPECT_LT(relative_difference(columns(doubles(fused.out), rows, cols, part * 5, 5),
                                  expected(columns(n, rows, cols, part * 5, 5), rows, 5)),
              1e-6);
  EXPECT_EQ(power->calls, (std::vector<core::Shape>{{3, 7, 5}}));
}

TEST_F(SpectralStepTest, Pitfall09_AStackIsItsMatricesOneByOne) {
  const std::int64_t experts = 4, rows = 6, cols = 9, n = rows * cols;
  const Doubles all = random(experts * n, 6);
  SpectralStep step = make();
  const MatrixInput stack = input("experts", {experts, rows, cols}, all);
  step.compute(*device, 1, std::vector{stack});
  EXPECT_EQ(power->calls, (std::vector<core::Shape>{{experts, rows, cols}}));
  for (std::int64_t e = 0; e < experts; ++e) {
    const MatrixInput one = input("expert", {rows, cols}, slice(all, e * n, n));
    step.compute(*device, 1, std::vector{one});
    EXPECT_EQ(slice(doubles(stack.out), e * n, n), doubles(one.out)) << e;
  }
}

TEST_F(SpectralStepTest, StacksOfFusedMatricesSplitBothWays) {
  const std::int64_t experts = 2, rows = 6, cols = 9, n = rows * cols;
  const Doubles all = random(experts * n, 7);
  SpectralStep step = make();
  for (const Split* split : {&kQkvRows, &kQkvColumns}) {
    const MatrixInput stack = input("experts", {experts, rows, cols}, all, split);
    step.compute(*device, 1, std::vector{stack});
    for (std::int64_t e = 0; e < experts; ++e) {
      const MatrixInput one = input("expert", {rows, cols}, slice(all, e * n, n), split);
      step.compute(*device, 1, std::vector{one});
      EXPECT_EQ(slice(doubles(stack.out), e * n, n), doubles(one.out)) << e;
    }
  }
}

TEST_F(SpectralStepTest, Pitfall08_OneRowZeroSizeAndSingleElementParametersWork) {
  SpectralStep step = make();
  const Doubles row = random(9, 8);
  const std::vector<MatrixInput> inputs = {input("row", {1, 9}, row),  input("column", {9, 1}, row),
                                           input("one", {1, 1}, {-5}), input("none", {0, 7}, {}),
                                           input("thin", {7, 0}, {}),  input("no_experts", {0, 3, 3}, {})};
  step.compute(*device, 1, inputs);
  // Of rank one, U Sᵖ Vᵀ is the vector itself up to its length, so the root mean square decides.
  const double factor = 0.2 * 3 / norm(row);
  for (int i = 0; i < 9; ++i) {
    EXPECT_NEAR(doubles(inputs[0].out)[i], factor * row[i], 1e-6);
    EXPECT_NEAR(doubles(inputs[1].out)[i], factor * row[i], 1e-6);
  }
  EXPECT_NEAR(doubles(inputs[2].out)[0], -0.2, 1e-7);
  EXPECT_EQ(step.cost("none", {0, 7}, nullptr), 0);
  EXPECT_EQ(step.workspace_bytes(std::vector<MatrixInput>{{"none", {0, 7}, nullptr, {}, {}}}), 0);
}

TEST_F(SpectralStepTest, Pitfall11_ZeroMatricesGiveZeroUpdatesInAnyBatch) {
  SpectralStep step = make();
  const std::vector<MatrixInput> inputs = {input("zero", {5, 4}, Doubles(20, 0.0)), input("other", {5, 4}, random(20, 1))};
  step.compute(*device, 1, inputs);
  EXPECT_EQ(doubles(inputs[0].out), Doubles(20, 0.0));
  EXPECT_LT(relative_difference(doubles(inputs[1].out), expected(random(20, 1), 5, 4)), 1e-6);
}

TEST_F(SpectralStepTest, Pitfall05_SplitPartsAreScaledByTheirOwnShape) {
  SpectralStep step = make(ShapeScale::spectral, {0, 1});
  const Doubles n = random(24 * 8, 9);
  const MatrixInput whole = input("w", {24, 8}, n), fused = input("qkv", {24, 8}, n, &kQkvRows);
  step.compute(*device, 1, std::vector{whole, fused});
  EXPECT_NEAR(svd(doubles(whole.out), 24, 8).s[0], std::sqrt(3.0), 1e-5);
  EXPECT_NEAR(svd(slice(doubles(fused.out), 0, 64), 8, 8).s[0], 1, 1e-5);
}

TEST_F(SpectralStepTest, NeighboursInMemoryAreOneBatchWithoutCopies) {
  SpectralStep step = make(ShapeScale::match_rms, {1, 1});
  const std::int64_t rows = 300, cols = 250, n = rows * cols;  // too large to be packed
  const core::Tensor in = tensor(*device, random(3 * n, 10));
  const core::Tensor out = tensor(*device, Doubles(3 * n, 0.0));
  std::vector<MatrixInput> inputs;
  for (int i : {2, 0, 1})
    inputs.push_back(
        {.name = "w" + std::to_string(i), .shape = {rows, cols}, .in = in.flat(i * n, n), .out = out.flat(i * n, n)});
  device->allocator()->reset_peak();
  const std::int64_t before = device->allocator()->use().peak_total;
  step.compute(*device, 1, inputs);
  EXPECT_EQ(power->calls, (std::vector<core::Shape>{{3, rows, cols}}));
  // A GPU has a sum of squares of each row, and of each matrix that and a factor, in double precision.
  const std::int64_t sums = test::on_gpu() ? (3 * rows + 2 * 3) * 8 : 0;
  EXPECT_LE(device->allocator()->use().peak_total, before + sums);
  EXPECT_LT(relative_difference(slice(doubles(out), n, n), expected(slice(doubles(in), n, n), rows, cols, 1)), 1e-6);
}

TEST_F(SpectralStepTest, NeighboursOnOneSideOnlyAreNotTakenForABatch) {
  const std::int64_t rows = 260, cols = 255, n = rows * cols;
  const core::Tensor in = tensor(*device, random(3 * n, 11));
  for (const auto& [in_at, out_at] : {std::pair(2, 1), std::pair(1, 2)}) {
    SpectralStep step = make(ShapeScale::match_rms, {1, 1});
    const core::Tensor out = tensor(*device, Doubles(3 * n, 0.0));
    const std::vector<MatrixInput> inputs = {
        {.name = "first", .shape = {rows, cols}, .in = in.flat(0, n), .out = out.flat(0, n)},
        {.name = "second", .shape = {rows, cols}, .in = in.flat(in_at * n, n), .out = out.flat(out_at * n, n)}};
    step.compute(*device, 1, inputs);
    EXPECT_EQ(power->calls.size(), 2u);
    EXPECT_LT(relative_difference(doubles(inputs[1].out), expected(doubles(inputs[1].in), rows, cols, 1)), 1e-6);
  }
}

TEST_F(SpectralStepTest, SmallMatricesOfOneShapeArePackedTogether) {
  SpectralStep step = make();
  std::vector<MatrixInput> inputs;
  for (int i = 0; i < 5; ++i) {
    inputs.push_back(input("a" + std::to_string(i), {6, 5}, random(30, 20 + i)));
    inputs.push_back(input("b" + std::to_string(i), {5, 6}, random(30, 30 + i)));
  }
  inputs.push_back(input("fused", {6, 15}, random(90, 40), &kQkvColumns));
  step.compute(*device, 1, inputs);
  EXPECT_EQ(power->calls, (std::vector<core::Shape>{{5, 5, 6}, {8, 6, 5}}));
  for (int i = 0; i < 10; ++i)
    EXPECT_LT(
        relative_difference(doubles(inputs[i].out), expected(doubles(inputs[i].in), inputs[i].shape[0], inputs[i].shape[1])),
        1e-6)
        << i;
  EXPECT_LT(relative_difference(columns(doubles(inputs[10].out), 6, 15, 10, 5),
                                expected(columns(random(90, 40), 6, 15, 10, 5), 6, 5)),
            1e-6);
}

TEST_F(SpectralStepTest, Pitfall15_AMethodThatDivergesNamesTheParameter) {
  SpectralStep step = make();
  power->poison = 1000;
  Doubles bad = random(30, 2);
  bad[0] = 1000;
  EXPECT_THAT(message(step, {input("alone", {6, 5}, bad)}), HasSubstr("parameter alone: matrix 0 of 1 diverged"));
  EXPECT_THAT(message(step, {input("a", {6, 5}, random(30, 1)), input("b", {6, 5}, bad), input("c", {6, 5}, random(30, 3))}),
              HasSubstr("parameter b: "));
  Doubles fused = random(90, 4);
  fused[30] = 1000;
  EXPECT_THAT(message(step, {input("a", {6, 5}, random(30, 1)), input("qkv.weight", {18, 5}, fused, &kQkvRows)}),
              HasSubstr("parameter qkv.weight (split into q, k, v): matrix 1 of 3 diverged"));
}

TEST_F(SpectralStepTest, CostsAreThoseOfTheLogicalMatrices) {
  SpectralStep step = make();
  EXPECT_EQ(step.cost("w", {30, 20}, nullptr), 30 * 20 * 20);
  EXPECT_EQ(step.cost("w", {5, 30, 20}, nullptr), 5 * 30 * 20 * 20);
  EXPECT_EQ(step.cost("w", {30, 10}, &kQkvRows), 3 * 10 * 10 * 10);
  EXPECT_EQ(step.workspace_bytes(std::vector<MatrixInput>{{"w", {30, 20}, nullptr, {}, {}}}), 4 * 600);
  EXPECT_EQ(step.workspace_bytes(std::vector<MatrixInput>{{"w", {20, 30}, &kQkvColumns, {}, {}}}),
            4 * 200 + 2 * 4 * 600);  // and the packed copies
  const MatrixInput small{"small", {30, 20}, nullptr, {}, {}}, large{"large", {300, 300}, nullptr, {}, {}};
  EXPECT_EQ(step.workspace_bytes(std::vector{small, small, small}), 4 * 600 + 2 * 4 * 1800);  // copied together
  EXPECT_EQ(step.workspace_bytes(std::vector{large, small, large}), 4 * 90000);
}

TEST_F(SpectralStepTest, AllScalesGoThroughTheStep) {
  for (std::size_t scale = 0; scale < std::size(kShapeScales); ++scale) {
    SpectralStep step = make(static_cast<ShapeScale>(scale));
    const Doubles n = random(48, 5);
    const MatrixInput one = input("w", {8, 6}, n);
    step.compute(*device, 1, std::vector{one});
    const core::Tensor z = tensor(*device, {8, 6}, spectral_power(n, 8, 6, 0.5));
    scale_update(device->queue(), static_cast<ShapeScale>(scale), 0.5, tensor(*device, {8, 6}, n), z);
    EXPECT_LT(relative_difference(doubles(one.out), doubles(z)), 1e-6) << kShapeScales[scale];
  }
}

TEST(Split, IndivisibleShapesAndVectorsAreRefusedByName) {
  EXPECT_THROW(matrix_batches("w", {25, 8}, &kQkvRows), core::Error);
  EXPECT_NO_THROW(matrix_batches("w", {24, 8}, &kQkvRows));
  try {
    matrix_batches("blocks.0.qkv", {24, 8}, &kQkvColumns);
    FAIL();
  } catch (const core::Error& e) {
    EXPECT_STREQ(e.what(),
                 "parameter blocks.0.qkv of shape [24, 8]: split qkv makes 3 parts along its 8 columns, which 3 "
                 "does not divide");
  }
  EXPECT_THROW(matrix_batches("bias", {8}, nullptr), core::Error);
  EXPECT_THROW(matrix_batches("conv", {8, 4, 3, 3}, nullptr), core::Error);
}

TEST(Split, PartsOfSeveralSizesMakeUpTheirRowsOrColumns) {
  Split split{.name = "qkv", .columns = false, .parts = {"q", "k", "v"}, .sizes = {6, 2, 2}};
  const std::vector<MatrixBatch> rows = matrix_batches("w", {10, 4}, &split);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].rows, 6);
  EXPECT_EQ(rows[2].offset, 8 * 4);
  EXPECT_TRUE(rows[1].contiguous());
  split.columns = true;
  const std::vector<MatrixBatch> columns = matrix_batches("w", {3, 4, 10}, &split);
  EXPECT_EQ(columns[1].cols, 2);
  EXPECT_EQ(columns[1].offset, 6);
  EXPECT_EQ(columns[1].count, 3);
  EXPECT_FALSE(columns[0].contiguous());
  try {
    matrix_batches("blocks.0.qkv", {12, 10, 4}, nullptr);
    split.columns = false;
    matrix_batches("blocks.0.qkv", {12, 4}, &split);
    FAIL();
  } catch (const core::Error& e) {
    EXPECT_STREQ(
        e.what(),
        "parameter blocks.0.qkv of shape [12, 4]: the parts of split qkv have 6 + 2 + 2 rows, 10 in all, and it has "
        "12");
  }
}

// As if each part were a parameter, in rows and in columns.
TEST_F(SpectralStepTest, PartsOfSeveralSizesAreMatricesOfTheirOwn) {
  for (const bool columns : {false, true}) {
    const Split split{.name = "qkv", .columns = columns, .parts = {"q", "k", "v"}, .sizes = {6, 2, 4}};
    const std::int64_t rows = columns ? 5 : 12, cols = columns ? 12 : 5;
    const Doubles g = random(60, 77);
    SpectralStep step = make();
    const MatrixInput fused = input("fused", {rows, cols}, g, &split);
    step.compute(*device, 1, std::vector{fused});
    const Doubles out = doubles(fused.out);
    std::int64_t begin = 0;
    for (const std::int64_t size : split.sizes) {
      const auto part_of = [&](const Doubles& x) {
        Doubles part;
        for (std::int64_t r = 0; r < (columns ? rows : size); ++r)
          for (std::int64_t c = 0; c < (columns ? size : cols); ++c)
            part.push_back(x[std::size_t(columns ? r * cols + begin + c : (begin + r) * cols + c)]);
        return part;
      };
      const std::int64_t m = columns ? rows : size, n = columns ? size : cols;
      EXPECT_LT(relative_difference(part_of(out), expected(part_of(g), m, n, 0.5)), 1e-5) << columns << " " << size;
      begin += size;
    }
  }
}

TEST(Split, PackAndUnpackAreInverse) {
  auto device = test::make_test_device(2);
  const std::vector<MatrixBatch> batches = matrix_batches("w", {2, 3, 12}, &kQkvColumns);
  ASSERT_EQ(batches.size(), 3u);
  const core::Tensor from = tensor(*device, random_integers(72, 1)), packed = tensor(*device, Doubles(72, 0)),
                     back = tensor(*device, Doubles(72, 0));
  for (int i = 0; i < 3; ++i)
    pack(device->queue(), batches[std::size_t(i)], from.data<float>(), packed.data<float>() + 24 * i);
  EXPECT_EQ(slice(doubles(packed), 24, 12), columns(slice(doubles(from), 0, 36), 3, 12, 4, 4));  // k of the first
  for (int i = 0; i < 3; ++i)
    unpack(device->queue(), batches[std::size_t(i)], packed.data<float>() + 24 * i, back.data<float>());
  EXPECT_EQ(floats(back), floats(from));
}
