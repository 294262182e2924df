// Attention that goes on from a cache is attention over the whole sequence, whatever was given at a time.
#include "core/device/attention.h"

#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

// Positions [first, first + count) of every sequence, where `first` is the sequence's own.
Numbers part_of(const Numbers& all, std::int64_t time, std::int64_t width, const std::vector<std::int64_t>& first,
                std::int64_t count) {
  Numbers part;
  for (std::size_t b = 0; b < first.size(); ++b) {
    const auto from = all.begin() + (static_cast<std::int64_t>(b) * time + first[b]) * width;
    part.insert(part.end(), from, from + count * width);
  }
  return part;
}

// Gives `counts` positions at a time, from `lengths` on, of which the cache knows what was before.
void check_generation(const AttentionCase& c, Dtype dtype, std::vector<std::int64_t> lengths,
                      const std::vector<std::int64_t>& counts, std::int64_t capacity) {
  SCOPED_TRACE(fmt::format("{}, {}", c.text(), name_of(dtype)));
  auto device = make_test_device(2, Bfloat16::emulated);
  const Numbers qkv = random_numbers(c.shape(), 21), expected = attention_reference(qkv, c);
  // What nobody wrote is NaN, and has to have no effect.
  const Shape shape = {c.batch, capacity, c.heads.key_width()};
  const Numbers nothing(at(element_count(shape)), std::nan(""));
  const Tensor keys = to_tensor(*device, shape, dtype, nothing), values = to_tensor(*device, shape, dtype, nothing);
  const auto give = [&](const std::vector<std::int64_t>& from, std::int64_t count) {
    const Tensor in = to_tensor(*device, {c.batch, count, c.heads.width()}, dtype,
                                part_of(qkv, c.time, c.heads.width(), from, count)),
                 out = Tensor::empty(*device, {c.batch, count, c.heads.query_width()}, dtype, Category::other);
    attention_with_cache(*device, c.heads, in, keys, values, from, out);
    return to_numbers(out);
  };
  // The prompts, which end at different lengths: all of the longest is given, and the shorter ones' ends are given again.
  const std::int64_t longest = *std::ranges::max_element(lengths);
  if (longest > 0) give(std::vector<std::int64_t>(lengths.size(), 0), longest);
  for (const std::int64_t count : counts) {
    const Numbers got = give(lengths, count), wanted = part_of(expected, c.time, c.heads.query_width(), lengths, count);
    const double tolerance = dtype == Dtype::float32 ? 64 * 0x1p-24 : 12 * 0x1p-9;
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance) << "element " << i;
    for (std::int64_t& length : lengths) length += count;
  }
}

}  // namespace

TEST(AttentionWithCache, EqualsAttentionOverAll) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
    check_generation({1, 9, {1, 1, 4}}, dtype, {0}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, 9);
    check_generation({2, 80, {4, 2, 8}}, dtype, {0, 0}, {70, 1, 1, 5}, 100);
    check_generation({3, 90, {3, 1, 8}}, dtype, {61, 3, 64}, {1, 1, 2, 1}, 90);
    check_generation({2, 150, {2, 2, 4}}, dtype, {10, 63}, {66, 1, 1}, 150);
    check_generation({2, 140, {4, 1, 8, 5}}, dtype, {100, 2}, {1, 1, 30, 1}, 140);
    check_generation({1, 140, {2, 1, 8, 70}}, dtype, {0}, {139, 1}, 200);
    check_generation({1, 5, {2, 1, 8, 1}}, dtype, {2}, {1, 1, 1}, 5);
  }
}

TEST(AttentionWithCache, RefusesWhatDoesNotFit) {
  auto device = make_test_device(1);
  const auto zeros = [&](Shape shape) { return Tensor::zeros(*device, std::move(shape), Dtype::float32, Category::other); };
  const Tensor qkv = zeros({1, 2, 8}), out = zeros({1, 2, 4}), cache = zeros({1, 3, 2});
  const auto run = [&](const std::vector<std::int64_t>& lengths, const Tensor& to) {
    attention_with_cache(*device, {2, 1, 2}, qkv, cache, cache, lengths, to);
  };
  EXPECT_THROW(run({2}, out), InternalError);
  EXPECT_THROW(run({-1}, out), InternalError);
  EXPECT_THROW(run({1, 1}, out), InternalError);
  EXPECT_THROW(run({1}, zeros({1, 2, 2})), InternalError);
}
