#include "core/autograd/ops/head_norm.h"

#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;

namespace {

constexpr double kEpsilon = 0.03;  // large enough to be seen

Numbers reference(const std::vector<Numbers>& v, const AttentionCase& c) {
  Numbers y = v[0];
  const std::size_t size = at(c.heads.size), heads = at(c.heads.queries + 2 * c.heads.keys);
  for (std::size_t r = 0; r < y.size() / size; ++r) {
    const std::size_t head = r % heads;
    if (head >= at(c.heads.queries + c.heads.keys)) continue;
    const Numbers& gain = head < at(c.heads.queries) ? v[1] : v[2];
    double square = 0;
    for (std::size_t i = 0; i < size; ++i) square += y[r * size + i] * y[r * size + i] / double(size);
    for (std::size_t i = 0; i < size; ++i) y[r * size + i] *= gain[i] / std::sqrt(square + kEpsilon);
  }
  return y;
}

}  // namespace

TEST(HeadNorm, MatchesReferenceAndDifferences) {
  for (const AttentionCase& a : std::vector<AttentionCase>{{2, 3, {4, 2, 6}}, {1, 5, {3, 1, 8}}, {1, 1, {1, 1, 2}}}) {
    SCOPED_TRACE(a.text());
    OpCase c;
    c.inputs = {a.shape()};
    c.parameters = {{a.heads.size}, {a.heads.size}};
    c.op = [=](Tape& tape, const auto& x, const auto& p) {
      return ops::head_norm(tape, x[0], a.heads, *p[0], *p[1], float(kEpsilon));
    };
    c.reference = [=](const std::vector<Numbers>& v) { return reference(v, a); };
    check_op(c);
  }
}
