// Small models of every family against transformers' own results (tests/fixtures/models/make.py).
#include <gmock/gmock.h>

#include <cmath>

#include "core/files/safetensors.h"
#include "models/generation/generate.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/pretrained_weights.h"
#include "tests/models/llama/tiny_llama.h"

namespace muonp::models::testing {
namespace {

const std::string kFixtures = MUONP_MODEL_FIXTURES;

// What make.py wrote beside the model.
class Reference {
 public:
  explicit Reference(const std::string& name) : file_(kFixtures + "/" + name + "/reference.safetensors") {}

  bool has(const std::string& tensor) const { return file_.find(tensor) != nullptr; }
  const core::Shape& shape(const std::string& tensor) const { return entry(tensor).spec.shape; }
  std::vector<float> floats(const std::string& tensor) const { return elements<float>(tensor); }
  std::vector<std::int32_t> ids(const std::string& tensor) const {  // -100, transformers' mark of what is not counted, as -1
    std::vector<std::int32_t> all;
    for (const std::int64_t id : elements<std::int64_t>(tensor)) all.push_back(static_cast<std::int32_t>(id < 0 ? -1 : id));
    return all;
  }

 private:
  const core::SafetensorsReader::Entry& entry(const std::string& tensor) const {
    const auto* found = file_.find(tensor);
    if (found == nullptr) core::fail("{}: no {}", file_.path(), tensor);
    return *found;
  }
  template <class T>
  std::vector<T> elements(const std::string& tensor) const {
    const auto& e = entry(tensor);
    std::vector<T> all(core::at(core::element_count(e.spec.shape)));
    EXPECT_EQ(e.spec.bytes(), std::ssize(all) * static_cast<std::int64_t>(sizeof(T)));
    std::memcpy(all.data(), e.data, core::at(e.spec.bytes()));
    return all;
  }
  core::SafetensorsReader file_;
};

// The model of a folder, with the weights of another one where it has none.
std::unique_ptr<Instance> open(const std::string& name, const std::string& weights, const std::string& recompute) {
  ModelConfig given;
  given.from = kFixtures + "/" + name;
  if (name == "llama-dynamic") given.gpt.context = 24;  // sequences are longer than the folder's 12
  ModelConfig config = given.with_folder(read_hf_config(given.from));
  config.llama.recompute = config.gpt.recompute = recompute;
  auto of = std::make_unique<Instance>(make_model(config));
  const PretrainedWeights from(kFixtures + "/" + weights, config, of->model->parameters());
  for (const core::Parameter* p : of->model->parameters()) {
    const core::HostView host(of->device->queue(), p->value, core::Access::write);
    from.read(*p, 0, p->size(), host.data<float>());
    host.upload();
  }
  return of;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float v : values) most = std::max(most, std::abs(double(v)));
  return most;
}

// Relative to the largest of them.
double error_of(const std::vector<float>& found, const std::vector<float>& expected) {
  double worst = found.size() == expected.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i)
    worst = std::max(worst, std::abs(double(found[i]) - expected[i]));
  return worst / largest(expected);
}

// transformers keeps GPT-2's matrices as [inputs, outputs].
std::vector<float> gradient_of(const Reference& reference, const core::Parameter& p) {
  const std::string name = "gradient." + p.name;
  const std::vector<float> stored = reference.floats(name);
  if (p.kind != core::ParameterKind::matrix || !p.name.starts_with("transformer.")) {
    EXPECT_EQ(reference.shape(name), p.shape);
    return stored;
  }
  EXPECT_EQ(reference.shape(name), (core::Shape{p.shape[1], p.shape[0]}));
  std::vector<float> turned(stored.size());
  for (std::int64_t o = 0; o < p.shape[0]; ++o)
    for (std::int64_t i = 0; i < p.shape[1]; ++i)
      turned[core::at(o * p.shape[1] + i)] = stored[core::at(i * p.shape[0] + o)];
  return turned;
}

void expect_parity(const std::string& name, const std::string& weights, const std::string& recompute) {
  SCOPED_TRACE(name + ", recompute " + recompute);
  const Reference reference(name);
  const auto of = open(name, weights, recompute);
  const std::int64_t batch = reference.shape("inputs")[0];
  const core::Tensor inputs = of->ids(reference.ids("inputs"), batch), targets = of->ids(reference.ids("targets"), batch);
  core::Tape tape(*of->device, false);
  EXPECT_LT(error_of(test::values_of(of->model->logits(tape, inputs)), reference.floats("logits")), 1e-4);
  const double loss = reference.floats("loss")[0];
  EXPECT_NEAR(of->step({inputs, targets}), loss, 1e-5 * loss);
  int compared = 0;
  for (const core::Parameter* p : of->model->parameters()) {
    if (!reference.has("gradient." + p->name)) continue;
    EXPECT_LT(error_of(test::values_of(p->gradient), gradient_of(reference, *p)), 1e-3) << p->name;
    ++compared;
  }
  EXPECT_EQ(compared, name == weights ? std::ssize(of->model->parameters()) : 4);  // of a scaling: q, k, v, o
}

}  // namespace

TEST(Parity, LogitsLossAndEveryGradientAreThoseOfTransformers) {
  for (const char* family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"})
    for (const char* recompute : {"none", "blocks"}) expect_parity(family, family, recompute);
}

TEST(Parity, RotaryScalingsAreThoseOfTransformers) {
  for (const char* kind : {"llama-linear", "llama-dynamic", "llama-llama3", "llama-yarn", "llama-yarn-mscale"})
    expect_parity(kind, "llama", "none");
}

TEST(Parity, GreedyTextsAreThoseOfTransformersWithAndWithoutACache) {
  for (const char* family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"}) {
    const Reference reference(family);
    const auto of = open(family, family, "none");
    const std::vector<Prompt> prompts = {{reference.ids("prompt")}};
    for (const bool cache : {true, false}) {
      GenerationOptions o{.tokens = 64, .sampling = {.temperature = 0}};
      o.cache = cache;
      EXPECT_EQ(generate(*of->device, *of->model, prompts, o)[0], reference.ids("greedy")) << family << ", cache " << cache;
    }
  }
}

}  // namespace muonp::models::testing
