// QK-clip in models: the largest logits of a pass beside the references in double precision, what the clip scales, and that
// the same batch has tau after it.
#include "models/layers/qk_clip.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "tests/models/gpt/gpt_reference.h"
#include "tests/models/llama/llama_reference.h"
#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

using core::AttentionHeads;
using core::Dtype;
using core::ScaledElements;
using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Numbers = std::vector<double>;

// Sums of some tens of products, each rounded.
constexpr double kRounding = 64 * 0x1p-24;

ModelConfig clipping(ModelConfig c, double tau, const std::string& shared_keys = "keep", double alpha = 0.5) {
  c.qk_clip = {.enabled = true, .tau = tau, .alpha = alpha, .shared_keys = shared_keys};
  return c;
}

// Numbers so large that no logit is nearly zero.
Weights randomise(const core::ParameterList& parameters) {
  Weights weights;
  for (core::Parameter* p : parameters) {
    std::vector<float> values;
    const bool gain = p->init.kind == core::Initializer::Kind::ones;
    for (std::int64_t i = 0; i < p->size(); ++i)
      values.push_back((gain ? 1.0f : 0.0f) + 0.4f * core::normal(9, weights.size(), std::uint64_t(i)));
    test::set_values(p->value, values);
    weights[p->name].assign(values.begin(), values.end());
  }
  return weights;
}

const std::vector<std::vector<std::int32_t>> kSequences = {{1, 0, 10, 3, 1, 8}, {4, 4, 2, 9, 7, 7}};

core::Tensor ids_of(const Instance& of, std::size_t begin, std::size_t end) {
  std::vector<std::int32_t> all;
  for (std::size_t b = begin; b < end; ++b) all.insert(all.end(), kSequences[b].begin(), kSequences[b].end());
  return of.ids(all, std::int64_t(end - begin));
}

// Of both sequences, in `passes` passes.
Numbers largest(Instance& of, std::size_t passes = 1) {
  QkClip& clip = *of.model->qk_clip();
  clip.forget();
  for (std::size_t i = 0; i < 2; i += 2 / passes) {
    const core::Tensor ids = ids_of(of, i, i + 2 / passes);
    of.step({ids, ids});
  }
  return clip.largest(of.device->queue());
}

// Multiplies the parameters whose names contain `layer`.
void apply(const std::vector<ScaledElements>& scales, Instance& of, const std::string& layer) {
  for (core::Parameter* p : of.model->parameters()) {
    std::vector<float> values = test::values_of(p->value);
    for (const ScaledElements& s : scales)
      if (s.parameter == p && p->name.find(layer) != std::string::npos)
        for (std::int64_t i = s.begin; i < s.end; ++i) values[core::at(i)] *= float(s.factor);
    test::set_values(p->value, values);
  }
}

Numbers reference(const ModelConfig& c, const Weights& weights, std::int64_t layer) {
  if (c.is_llama()) {
    const LlamaReference llama(c.resolved().llama, weights);
    for (const auto& tokens : kSequences) llama.logits(tokens);
    return llama.largest_logits(fmt::format("model.layers.{}.self_attn", layer));
  }
  const GptReference gpt(c.resolved().gpt, weights);
  for (const auto& tokens : kSequences) gpt.logits(tokens);
  return gpt.largest_logits(fmt::format("blocks.{}", layer));
}

std::vector<ModelConfig> clipped_families() {
  std::vector<ModelConfig> all = all_families();
  all.pop_back();  // qwen3
  return all;
}

std::string refusal(const ModelConfig& c) {
  try {
    make_model(c);
  } catch (const core::Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST(QkClip, TheLargestLogitsAreThoseOfTheReference) {
  for (const ModelConfig& c : clipped_families()) {
    if (c.family == "gpt2") continue;  // the same as gpt, by other names
    Instance of(make_model(clipping(c, 1e9)));
    const Weights weights = randomise(of.model->parameters());
    const Numbers got = largest(of);
    const std::int64_t heads = c.heads().queries;
    ASSERT_EQ(std::ssize(got), 2 * heads);
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const Numbers expected = reference(c, weights, layer);
      for (std::int64_t h = 0; h < heads; ++h)
        EXPECT_NEAR(got[core::at(layer * heads + h)], expected[core::at(h)], 2e-5 * (1 + std::abs(expected[core::at(h)])))
            << c.family << ", layer " << layer << ", head " << h;
    }
  }
}

// Of all passes of a step, and of one that is computed again; not of passes before, nor of those that no tape records.
// On a GPU products of another batch may be summed in another order.
void expect_logits(const Numbers& got, const Numbers& expected) {
  ASSERT_EQ(got.size(), expected.size());
  const double rounding = test::on_gpu() ? kRounding * std::ranges::max(expected) : 0;
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], rounding) << i;
}

TEST(QkClip, TheLargestLogitsAreOfThePassesOfAStep) {
  ModelConfig c = clipping(config_of("llama"), 1e9);
  Instance of(make_model(c));
  randomise(of.model->parameters());
  const Numbers expected = largest(of);
  expect_logits(largest(of, 2), expected);
  core::Tape tape(*of.device, false);
  of.model->loss(tape, {of.ids({12, 12, 12, 11}, 1), of.ids({12, 12, 12, 11}, 1)}, {});
  expect_logits(of.model->qk_clip()->largest(of.device->queue()), expected);
  c.llama.recompute = "blocks";
  Instance again(make_model(c));
  randomise(again.model->parameters());
  EXPECT_EQ(largest(again), expected);
}

TEST(QkClip, NoBitOfAPassChanges) {
  for (const ModelConfig& c : clipped_families()) {
    Instance plain(make_model(c)), with(make_model(clipping(c, 1)));
    randomise(plain.model->parameters());
    randomise(with.model->parameters());
    const core::Tensor ids = ids_of(plain, 0, 2);
    EXPECT_EQ(plain.step({ids, ids}), with.step({ids, ids})) << c.family;
    for (std::size_t p = 0; p < plain.model->parameters().size(); ++p)
      EXPECT_EQ(test::values_of(plain.model->parameters()[p]->gradient),
                test::values_of(with.model->parameters()[p]->gradient));
    EXPECT_EQ(plain.model->qk_clip(), nullptr);
  }
}

// Where nothing else moves, a head that had more than tau has tau, and every other head what it had.
TEST(QkClip, AfterAClipTheSameBatchHasTau) {
  for (const ModelConfig& c : clipped_families())
    for (const char* shared_keys : {"keep", "scale"})
      for (const double alpha : {0.0, 0.5, 1.0}) {
        SCOPED_TRACE(fmt::format("{}, shared_keys {}, alpha {}", c.family, shared_keys, alpha));
        Instance of(make_model(c));
        randomise(of.model->parameters());
        const std::int64_t heads = c.heads().queries;
        for (std::int64_t layer = 0; layer < 2; ++layer) {
          // Between the heads' logits, so that some are clipped.
          Instance measured(make_model(clipping(c, 1e9)));
          const auto copy = [&](Instance& to) {
            for (std::size_t p = 0; p < of.model->parameters().size(); ++p)
              test::set_values(to.model->parameters()[p]->value, test::values_of(of.model->parameters()[p]->value));
          };
          copy(measured);
          const Numbers before = largest(measured);
          const auto [least, most] =
              std::minmax_element(before.begin() + layer * heads, before.begin() + (layer + 1) * heads);
          const double tau = 0.5 * (*least + *most);
          ASSERT_GT(tau, 0);
          Instance clipped(make_model(clipping(c, tau, shared_keys, alpha)));
          copy(clipped);
          const QkClip& clip = *clipped.model->qk_clip();
          apply(clip.scales(before), clipped, fmt::format(".{}.", layer));
          const Numbers after = largest(clipped);
          for (std::int64_t h = layer * heads; h < (layer + 1) * heads; ++h)
            EXPECT_NEAR(after[core::at(h)], std::min(before[core::at(h)], tau), kRounding * tau + 1e-5) << "head " << h;
        }
      }
}

// The rows of γ·W and the elements of γ·b, and no others, in a fused projection and in separate ones.
TEST(QkClip, ScalesTheRowsOfClippedHeads) {
  const auto texts = [](const ModelConfig& c, const Numbers& logits) {
    const auto model = make_model(c);
    std::vector<std::string> all;
    for (const ScaledElements& s : model->qk_clip()->scales(logits))
      all.push_back(fmt::format("{} {} {} {:.4g}", s.parameter->name, s.begin, s.end, s.factor));
    return all;
  };
  // 2 heads of 4, 8 wide; the second head of the second layer has four times tau.
  EXPECT_THAT(texts(clipping(config_of("gpt2"), 5), {5, 1, 2, 20}),
              ElementsAre("transformer.h.1.attn.c_attn.weight 32 64 0.5", "transformer.h.1.attn.c_attn.bias 4 8 0.5",
                          "transformer.h.1.attn.c_attn.weight 96 128 0.5", "transformer.h.1.attn.c_attn.bias 12 16 0.5"));
  // 4 heads of 4 on 2 of keys, 16 wide; heads 2 and 3 share the second one.
  const std::string qwen = "model.layers.0.self_attn.";
  const Numbers logits = {1, 2, 20, 10, 0, 0, 0, 0};
  EXPECT_THAT(texts(clipping(config_of("qwen2"), 5), logits),
              ElementsAre(qwen + "q_proj.weight 128 192 0.25", qwen + "q_proj.weight 192 256 0.5",
                          qwen + "q_proj.bias 8 12 0.25", qwen + "q_proj.bias 12 16 0.5"));
  // The least factor of the group is 1/4, of which keys take the root: queries get 1/4 and 1/2 of it by 1/2 and 1.
  EXPECT_THAT(texts(clipping(config_of("qwen2"), 5, "scale"), logits),
              ElementsAre(qwen + "q_proj.weight 128 192 0.5", qwen + "q_proj.bias 8 12 0.5",
                          qwen + "k_proj.weight 64 128 0.5", qwen + "k_proj.bias 4 8 0.5"));
  EXPECT_THAT(texts(clipping(config_of("qwen2"), 50), logits), ElementsAre());
}

TEST(QkClip, FactorsOfAHeadAndItsKeyHaveTheLogitsFactorAsProduct) {
  for (const AttentionHeads heads : {AttentionHeads{4, 4, 8}, {4, 2, 8}, {6, 1, 8}})
    for (const char* shared_keys : {"keep", "scale"})
      for (const double alpha : {0.0, 0.3, 1.0}) {
        const QkClipConfig config{.enabled = true, .tau = 10, .alpha = alpha, .shared_keys = shared_keys};
        Numbers logits = {3, 40, 10, 12, -5, 1e6};
        logits.resize(core::at(heads.queries));
        const HeadFactors f = head_factors(config, heads, logits);
        for (std::int64_t h = 0; h < heads.queries; ++h) {
          const double gamma = logits[core::at(h)] > 10 ? 10 / logits[core::at(h)] : 1;
          EXPECT_THAT(f.queries[core::at(h)] * f.keys[core::at(h / heads.group())], DoubleNear(gamma, 1e-15 * 8));
          if (heads.group() == 1) {
            EXPECT_DOUBLE_EQ(f.queries[core::at(h)], std::pow(gamma, alpha));
          } else if (config.shared_keys == "keep") {
            EXPECT_EQ(f.keys[core::at(h / heads.group())], 1);
          }
        }
      }
}

TEST(QkClip, CountsHeadsAboveTau) {
  const auto model = make_model(clipping(config_of("gpt"), 5));
  EXPECT_EQ(model->qk_clip()->clipped(Numbers{5, 5.1, -9, 7}), 2);
  EXPECT_THROW(model->qk_clip()->scales(Numbers{1, 2}), core::InternalError);
}

TEST(QkClip, RefusesWhatItCannotBound) {
  const ModelConfig gpt = config_of("gpt");
  for (const double tau : {0.0, -3.0, double(INFINITY), double(NAN)})
    EXPECT_THAT(refusal(clipping(gpt, tau)), AllOf(HasSubstr("model.qk_clip.tau: "), HasSubstr("a finite number above 0"),
                                                   HasSubstr("MuonClip's is 100")));
  EXPECT_THAT(refusal(clipping(gpt, 10, "keep", 1.5)), HasSubstr("model.qk_clip.alpha: 1.5 is not between 0"));
  EXPECT_THAT(refusal(clipping(gpt, 10, "some")),
              HasSubstr("model.qk_clip.shared_keys: 'some' is not known; valid are keep"));
  ModelConfig idle = gpt;
  idle.qk_clip.tau = 30;
  EXPECT_THAT(refusal(idle), HasSubstr("set model.qk_clip.enabled: true"));
  ModelConfig adapters = clipping(config_of("llama"), 10);
  adapters.lora.rank = 2;
  EXPECT_THAT(refusal(adapters), HasSubstr("model.lora freezes them"));
  EXPECT_THAT(refusal(clipping(config_of("qwen3"), 10)), HasSubstr("the gains of the norms"));
  EXPECT_EQ(refusal(clipping(gpt, 10)), "accepted");
}

}  // namespace muonp::models::testing
