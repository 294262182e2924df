#include "core/autograd/ops/linear.h"

#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

Numbers reference(const std::vector<Numbers>& v, std::size_t rows, std::size_t inputs, std::size_t outputs) {
  Numbers y(rows * outputs);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t o = 0; o < outputs; ++o) {
      double sum = v.size() > 2 ? v[2][o] : 0;
      for (std::size_t i = 0; i < inputs; ++i) sum += v[0][r * inputs + i] * v[1][o * inputs + i];
      y[r * outputs + o] = sum;
    }
  return y;
}

OpCase linear_case(bool bias, std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  OpCase c;
  c.inputs = {{rows, inputs}};
  c.parameters = {{outputs, inputs}};
  if (bias) c.parameters.push_back({outputs});
  c.op = [=](Tape& tape, const auto& x, const auto& p) { return ops::linear(tape, x[0], *p[0], bias ? p[1] : nullptr); };
  c.reference = [=](const std::vector<Numbers>& v) { return reference(v, rows, inputs, outputs); };
  return c;
}

// Results of parts side by side. v: x, then weight and bias of each part.
Numbers parts_reference(const std::vector<Numbers>& v, std::size_t rows, std::size_t inputs,
                        const std::vector<std::int64_t>& outputs, const std::vector<bool>& biased) {
  std::vector<Numbers> results;
  std::size_t next = 1;
  for (std::size_t p = 0; p < outputs.size(); ++p) {
    std::vector<Numbers> of_part = {v[0], v[next++]};
    if (biased[p]) of_part.push_back(v[next++]);
    results.push_back(reference(of_part, rows, inputs, at(outputs[p])));
  }
  Numbers y;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t p = 0; p < outputs.size(); ++p) {
      const auto row = results[p].begin() + std::int64_t(r) * outputs[p];
      y.insert(y.end(), row, row + outputs[p]);
    }
  return y;
}

OpCase parts_case(std::int64_t rows, std::int64_t inputs, const std::vector<std::int64_t>& outputs,
                  const std::vector<bool>& biased) {
  OpCase c;
  c.inputs = {{rows, inputs}};
  for (std::size_t p = 0; p < outputs.size(); ++p) {
    c.parameters.push_back({outputs[p], inputs});
    if (biased[p]) c.parameters.push_back({outputs[p]});
  }
  c.op = [=](Tape& tape, const auto& x, const auto& p) {
    std::vector<ops::LinearPart> parts;
    std::size_t next = 0;
    for (const bool has_bias : biased) {
      Parameter* weight = p[next++];
      parts.push_back({weight, has_bias ? p[next++] : nullptr});
    }
    return ops::linear(tape, x[0], parts);
  };
  c.reference = [=](const std::vector<Numbers>& v) { return parts_reference(v, at(rows), at(inputs), outputs, biased); };
  return c;
}

// Parameters in one piece of memory, in the order of the list, with their gradients in another: as in a bucket.
class OneBucket final : public GradientSink {
 public:
  OneBucket(Device& device, const ParameterList& parameters) {
    std::int64_t size = 0;
    for (const Parameter* p : parameters) size += p->size();
    weights_ = Tensor::zeros(device, {size}, Dtype::float32, Category::weights);
    gradients_ = Tensor::zeros(device, {size}, Dtype::float32, Category::gradients);
    std::int64_t begin = 0;
    for (Parameter* p : parameters) {
      p->value = weights_.flat(begin, p->size()).view(p->shape);
      p->gradient = gradients_.flat(begin, p->size()).view(p->shape);
      begin += p->size();
    }
  }
  GradientSlot slot(Parameter& p) override { return {p.gradient, true}; }
  void complete(Parameter&) override {}

 private:
  Tensor weights_, gradients_;
};

}  // namespace

TEST(Linear, PartsMatchReferenceAndDifferences) {
  check_op(parts_case(6, 5, {4, 2, 2}, {true, true, true}));
  check_op(parts_case(6, 5, {8, 3, 1}, {false, false, false}));
  check_op(parts_case(3, 8, {8, 3, 16}, {true, false, true}));  // rows of 16 bytes at odd places
  check_op(parts_case(1, 1, {1, 1}, {false, true}));
}

// Three parts, of which two lie one behind the other, give what they give apart.
TEST(Linear, PartsThatLieTogetherGiveTheSame) {
  auto device = make_test_device(2);
  const std::vector<Shape> shapes = {{4, 6}, {3, 6}, {3}, {5, 6}};
  std::deque<Parameter> apart(4), together(4);
  ParameterList apart_list, together_list;
  for (std::size_t i = 0; i < 4; ++i)
    for (auto [all, list] : {std::pair(&apart, &apart_list), std::pair(&together, &together_list)}) {
      (*all)[i].name = fmt::format("p{}", i);
      (*all)[i].shape = shapes[i];
      list->push_back(&(*all)[i]);
    }
  PlainParameters plain(*device, apart_list, Dtype::float32, 1);
  OneBucket bucket(*device, together_list);
  for (std::size_t i = 0; i < 4; ++i) {
    Numbers numbers;
    for (std::int64_t j = 0; j < apart[i].size(); ++j) numbers.push_back(float(normal(5, i, std::uint64_t(j))));
    for (Parameter* p : {&apart[i], &together[i]})
      p->value.copy_from(device->queue(), to_tensor(*device, shapes[i], Dtype::float32, numbers));
  }
  std::vector<std::vector<Numbers>> results;
  const auto run = [&](std::deque<Parameter>& p, const ParameterList& list, GradientSink& sink) {
    Tape tape(*device, true);
    Numbers x, slopes;
    for (std::uint64_t i = 0; i < 42; ++i) x.push_back(float(normal(6, 0, i)));
    for (std::uint64_t i = 0; i < 84; ++i) slopes.push_back(float(normal(6, 1, i)));
    const Variable in = tape.variable(to_tensor(*device, {7, 6}, Dtype::float32, x));
    const std::vector<ops::LinearPart> parts = {{&p[0], nullptr}, {&p[1], &p[2]}, {&p[3], nullptr}};
    const Variable y = ops::linear(tape, in, parts);
    std::vector<Numbers>& all = results.emplace_back();
    all.push_back(to_numbers(y->value));
    tape.backward(weighted_sum(tape, y, slopes), 1, list, sink);
    all.push_back(to_numbers(in->gradient->tensor));
    for (const Parameter& parameter : p) all.push_back(to_numbers(parameter.gradient));
  };
  plain.start_step();
  run(apart, apart_list, plain);
  run(together, together_list, bucket);
  for (std::size_t i = 0; i < results[0].size(); ++i)
    for (std::size_t j = 0; j < results[0][i].size(); ++j)
      ASSERT_NEAR(results[0][i][j], results[1][i][j], 64 * 0x1p-24) << "result " << i << ", element " << j;
}

TEST(Linear, MatchesReferenceAndDifferences) {
  check_op(linear_case(true, 6, 5, 7));
  check_op(linear_case(false, 6, 5, 7));
  check_op(linear_case(true, 1, 1, 1));
  check_op(linear_case(true, 3, 4, 130));  // more columns than one block of the bias sum
}

TEST(Linear, RefusesShapesAndDtypesThatDoNotFit) {
  auto device = make_test_device(1);
  Parameter weight;
  weight.name = "weight";
  weight.shape = {3, 4};
  PlainParameters plain(*device, {&weight}, Dtype::float32, 1);
  Tape tape(*device, true);
  const auto zeros = [&](Shape shape, Dtype dtype) {
    return tape.constant(Tensor::zeros(*device, std::move(shape), dtype, Category::other));
  };
  EXPECT_THROW(ops::linear(tape, zeros({2, 3}, Dtype::float32), weight, nullptr), InternalError);
  EXPECT_THROW(ops::linear(tape, zeros({2, 4}, Dtype::bfloat16), weight, nullptr), InternalError);
  EXPECT_THROW(ops::linear(tape, zeros({2, 4}, Dtype::float32), weight, &weight), InternalError);
  EXPECT_EQ(ops::linear(tape, zeros({2, 5, 4}, Dtype::float32), weight, nullptr)->value.shape(), (Shape{2, 5, 3}));
}
