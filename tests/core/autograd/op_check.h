// Checks an operation against a plain reference in double precision: its value, and its gradients against
// central differences of the reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <functional>
#include <vector>

#include "core/autograd/ops/common.h"
#include "core/autograd/plain_parameters.h"
#include "core/base/rng.h"
#include "tests/support/test_device.h"

namespace muonp::core::testing {

using Numbers = std::vector<double>;

inline Tensor to_tensor(Device& device, const Shape& shape, Dtype dtype, const Numbers& values) {
  const Tensor t = Tensor::empty(device, shape, dtype, Category::other);
  with_float_type(dtype, [&]<class T>(T) {
    std::vector<T> elements;
    for (const double v : values) elements.push_back(T(static_cast<float>(v)));
    test::set_values(t, elements);
  });
  return t;
}

inline Numbers to_numbers(const Tensor& t) {
  Numbers values;
  with_float_type(t.dtype(), [&]<class T>(T) {
    for (const T& v : test::values_of<T>(t)) values.push_back(double(float(v)));
  });
  return values;
}

inline Tensor to_ids(const Shape& shape, const std::vector<std::int32_t>& ids) {
  const Tensor t = Tensor::on_host(shape, Dtype::int32);
  std::copy(ids.begin(), ids.end(), t.data<std::int32_t>());
  return t;
}

inline Numbers random_numbers(const Shape& shape, std::uint64_t seed) {
  Numbers x(at(element_count(shape)));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = double(float(bfloat16(float(normal(seed, 0, i)))));
  return x;
}

// Σ weights·value as a float32 scalar.
inline Variable weighted_sum(Tape& tape, const Variable& v, const Numbers& weights) {
  const Tensor value = tape.activation({}, Dtype::float32);
  const Numbers numbers = to_numbers(v->value);
  double sum = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) sum += weights[i] * numbers[i];
  test::set_value(value, 0, static_cast<float>(sum));
  Variable out = tape.result(value, true);
  if (!tape.recording()) return out;
  tape.record({},
              [&tape, weights, shape = v->value.shape(), dtype = v->value.dtype(), dv = v->gradient, dout = out->gradient] {
                const float scale = test::value_of(dout->tensor);
                Numbers scaled = weights;
                for (double& w : scaled) w *= scale;
                if (dv) ops::add_gradient(tape, *dv, to_tensor(tape.device(), shape, dtype, scaled));
              });
  return out;
}

struct OpCase {
  std::vector<Shape> inputs;      // variables of random numbers
  std::vector<Shape> parameters;  // parameters of random numbers
  std::function<Variable(Tape&, const std::vector<Variable>&, const std::vector<Parameter*>&)> op;
  // The same in double precision: values of the inputs, then of the parameters; the result flattened.
  std::function<Numbers(const std::vector<Numbers>&)> reference;
  double input_scale = 1;
};

class OpCheck {
 public:
  OpCheck(const OpCase& op_case, Dtype dtype, int threads = 2)
      : case_(op_case), dtype_(dtype), device_(test::make_test_device(threads, Bfloat16::emulated)) {
    for (const Shape& shape : case_.inputs) values_.push_back(random(shape));
    for (const Shape& shape : case_.parameters) {
      Parameter& p = storage_.emplace_back();
      p.name = fmt::format("p{}", storage_.size());
      p.shape = shape;
      parameters_.push_back(&p);
      values_.push_back(random(shape));
    }
  }

  void run() {
    PlainParameters plain(*device_, parameters_, dtype_, 1);
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      parameters_[i]->value = tensor(case_.parameters[i], values_[case_.inputs.size() + i]);
    const Numbers expected = case_.reference(values_);
    const Numbers weights = random({static_cast<std::int64_t>(expected.size())});
    const std::vector<Numbers> differences = central_differences(weights);

    // Used once; then the same leaves used twice, so that every gradient is written and then added to.
    for (const int uses : {1, 2}) {
      Tape tape(*device_, true);
      std::vector<Variable> variables;
      for (std::size_t i = 0; i < case_.inputs.size(); ++i)
        variables.push_back(tape.variable(tensor(case_.inputs[i], values_[i])));
      Variable total;
      for (int use = 0; use < uses; ++use) {
        const Variable y = case_.op(tape, variables, parameters_);
        compare("value", to_numbers(y->value), expected, 1);
        const Variable loss = weighted_sum(tape, y, weights);
        total = total ? ops_add(tape, total, loss) : loss;
      }
      plain.start_step();
      tape.backward(total, 0.5f, parameters_, plain);
      const double factor = 0.5 * uses;
      for (std::size_t i = 0; i < variables.size(); ++i)
        compare(fmt::format("input gradient {}", i), to_numbers(variables[i]->gradient->tensor), differences[i], factor);
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        compare(fmt::format("parameter gradient {}", i), to_numbers(parameters_[i]->gradient),
                differences[variables.size() + i], factor);
    }
  }

 private:
  // Rounding errors of a value are a few units of the dtype's precision, relative to the largest of its kind:
  // sums cancel.
  void compare(const std::string& what, const Numbers& got, const Numbers& expected, double factor) const {
    ASSERT_EQ(got.size(), expected.size()) << what;
    double largest = 1;
    for (const double e : expected) largest = std::max(largest, std::abs(factor * e));
    const double tolerance = largest * (dtype_ == Dtype::float32 ? 64 * 0x1p-24 : 12 * 0x1p-9);
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], factor * expected[i], tolerance) << what << ", element " << i;
  }

  static Variable ops_add(Tape& tape, const Variable& a, const Variable& b) {
    const Tensor value = tape.activation({}, Dtype::float32);
    test::set_value(value, 0, test::value_of(a->value) + test::value_of(b->value));
    Variable out = tape.result(value, true);
    tape.record({}, [&tape, da = a->gradient, db = b->gradient, dout = out->gradient] {
      for (const auto& d : {da, db}) tape.slot(*d).gradient.copy_from(tape.queue(), dout->tensor);
    });
    return out;
  }

  std::vector<Numbers> central_differences(const Numbers& weights) const {
    constexpr double kStep = 1e-5;
    std::vector<Numbers> result, at = values_;
    const auto loss = [&] {
      const Numbers y = case_.reference(at);
      double sum = 0;
      for (std::size_t i = 0; i < y.size(); ++i) sum += weights[i] * y[i];
      return sum;
    };
    for (Numbers& values : at) {
      Numbers& slopes = result.emplace_back();
      for (double& value : values) {
        const double middle = value;
        value = middle + kStep;
        const double above = loss();
        value = middle - kStep;
        const double below = loss();
        value = middle;
        slopes.push_back((above - below) / (2 * kStep));
      }
    }
    return result;
  }

  Tensor tensor(const Shape& shape, const Numbers& values) const { return to_tensor(*device_, shape, dtype_, values); }

  // Standard normal, representable in the dtype.
  Numbers random(const Shape& shape) {
    Numbers values(static_cast<std::size_t>(element_count(shape)));
    for (double& v : values) {
      v = case_.input_scale * normal(7, 0, drawn_++);
      v = dtype_ == Dtype::float32 ? double(static_cast<float>(v)) : double(float(bfloat16(static_cast<float>(v))));
    }
    return values;
  }

  OpCase case_;
  Dtype dtype_;
  test::TestDevice device_;
  std::deque<Parameter> storage_;
  ParameterList parameters_;
  std::vector<Numbers> values_;
  std::uint64_t drawn_ = 0;
};

inline void check_op(const OpCase& op_case) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
    SCOPED_TRACE(std::string(name_of(dtype)));
    OpCheck(op_case, dtype).run();
  }
}

}  // namespace muonp::core::testing
