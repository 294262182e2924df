#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/rng.h"
#include "core/data/finetuning/example_encoder.h"
#include "launch/evaluation/answer_pattern.h"
#include "launch/evaluation/kinds.h"
#include "launch/evaluation/pass_at_k.h"
#include "launch/evaluation/task_lines.h"
#include "launch/inference/text_stream.h"
#include "launch/inference/writing.h"

namespace muonp::launch {

using core::BadExample;
using nlohmann::json;

namespace {

struct Question {
  std::int64_t line = 0;
  std::vector<std::int32_t> prompt;
  std::string reference;  // what counts of it
};

// Of examples alone, no texts.
core::ExampleFormat format_of(const TaskConfig& config, core::DataConfig data) {
  data.text.clear();
  if (!config.prompt.empty()) data.prompt = config.prompt;
  if (!config.completion.empty()) data.completion = config.completion;
  if (!config.messages.empty()) data.messages = config.messages;
  return core::ExampleFormat(data);
}

// Makes questions of examples; opens the chat template for the first one that needs it.
class QuestionReader {
 public:
  QuestionReader(const core::DataConfig& data, const core::Tokenizer& tokenizer) : data_(data), tokenizer_(tokenizer) {}

  Question read(core::Example example) {
    if (example.kind == core::ExampleKind::completion)
      return {0, encode_prompt(tokenizer_, example.prompt), example.completion};
    std::vector<core::ChatMessage>& messages = example.messages;
    while (messages.back().role != "assistant") messages.pop_back();
    const std::string reference = messages.back().content;
    messages.pop_back();
    return {0, prompt_of(messages), reference};
  }

 private:
  std::vector<std::int32_t> prompt_of(const std::vector<core::ChatMessage>& messages) {
    if (!chat_) chat_ = core::open_chat_template(data_, tokenizer_);
    if (!chat_)
      throw BadExample("it has messages, and the model has no chat template to write them with (data.chat_template)");
    try {
      return tokenizer_.encode(chat_->render(messages, true));
    } catch (const core::Error& error) {
      throw BadExample(error.what());
    }
  }

  const core::DataConfig& data_;
  const core::Tokenizer& tokenizer_;
  std::optional<core::ChatTemplate> chat_;
};

models::SamplingOptions sampling_of(const TaskConfig& c) {
  return {.repetition_penalty = c.repetition_penalty, .temperature = c.temperature, .top_k = c.top_k, .top_p = c.top_p};
}

json to_json(const TaskAnswer& a) {
  return {{"line", a.line},   {"sample", a.sample},       {"answer", a.answer},
          {"found", a.found}, {"reference", a.reference}, {"right", a.right}};
}

TaskAnswer from_json(const json& j) {
  return {j.at("line"), j.at("sample"), j.at("answer"), j.at("found"), j.at("reference"), j.at("right")};
}

// Of all ranks, by line and sample. A list of bytes: answers need not be UTF-8.
std::vector<TaskAnswer> gather_answers(dist::Communicator& communicator, const std::vector<TaskAnswer>& mine) {
  json list = json::array();
  for (const TaskAnswer& answer : mine) list.push_back(to_json(answer));
  const std::vector<std::uint8_t> packed = json::to_msgpack(list);
  std::vector<TaskAnswer> all;
  for (const std::string& bytes : communicator.all_gather_bytes({packed.begin(), packed.end()}))
    for (const json& answer : json::from_msgpack(bytes)) all.push_back(from_json(answer));
  std::ranges::sort(all, {}, [](const TaskAnswer& a) { return std::pair(a.line, a.sample); });
  return all;
}

class ExactTask final : public Task {
 public:
  ExactTask(const TaskConfig& config, const core::DataConfig& data, const Subject& subject)
      : config_(config), pattern_(config.pattern, config.title() + ": pattern") {
    config.validate(config.title());
    check_stops(config.stop);
    const core::ExampleFormat format = format_of(config, data);
    QuestionReader reader(data, *subject.tokenizer);
    hash_ = read_task_lines(config.file, config.limit, [&](std::string_view line, std::int64_t number) {
      add(reader.read(format.parse(line)), subject, number);
    });
    order_.resize(questions_.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::ranges::stable_sort(order_, std::greater(), [&](std::size_t i) { return questions_[i].prompt.size(); });
  }

  std::uint64_t fingerprint() const override { return hash_; }

  TaskNumbers run(const Subject& subject, const OnItems& on_items, std::vector<TaskAnswer>* answers) const override {
    std::vector<TaskAnswer> mine;
    const std::vector<double> right = numbers_of_items(
        subject, std::ssize(questions_) * config_.samples, config_.batch, on_items,
        [&](Passes& passes, std::int64_t first, std::span<double> to) {
          std::vector<TaskAnswer> batch = answer(subject, passes, first, std::ssize(to));
          std::ranges::transform(batch, to.begin(), [](const TaskAnswer& a) { return a.right ? 1.0 : 0.0; });
          if (answers != nullptr) std::ranges::move(batch, std::back_inserter(mine));
        });
    if (answers != nullptr) *answers = gather_answers(subject.communicator, mine);
    return scores(right);
  }

 private:
  void add(Question question, const Subject& subject, std::int64_t line) {
    question.line = line;
    require_room(subject, question.prompt.size(), place_of(config_.file, line));
    const auto reference = pattern_.find(question.reference);
    if (!reference)
      throw BadExample(
          fmt::format("the pattern '{}' finds nothing in the reference '{}'", config_.pattern, question.reference));
    question.reference = *reference;
    questions_.push_back(std::move(question));
  }

  // Item i is sample i % samples of the question that is order_[i / samples].
  std::size_t question_of(std::int64_t item) const { return order_[core::at(item / config_.samples)]; }
  models::Prompt prompt_of_item(std::int64_t item) const {
    const core::Random4 random = core::philox(static_cast<std::uint64_t>(config_.seed), question_of(item),
                                              static_cast<std::uint64_t>(item % config_.samples));
    return {questions_[question_of(item)].prompt, (std::uint64_t{random.v[0]} << 32) | random.v[1]};
  }

  std::vector<TaskAnswer> answer(const Subject& subject, Passes& passes, std::int64_t first, std::int64_t count) const {
    std::vector<models::Prompt> prompts;
    for (std::int64_t i = first; i < first + count; ++i) prompts.push_back(prompt_of_item(i));
    const WritingOptions options{.tokens = config_.tokens, .sampling = sampling_of(config_), .stops = config_.stop};
    const std::vector<WrittenText> written = write_texts(subject, passes, prompts, options);
    std::vector<TaskAnswer> answers;
    for (std::int64_t i = 0; i < count; ++i) {
      const Question& question = questions_[question_of(first + i)];
      const auto found = pattern_.find(written[core::at(i)].text);
      answers.push_back({question.line, (first + i) % config_.samples, written[core::at(i)].text, found.value_or(""),
                         question.reference, found == question.reference});
    }
    return answers;
  }

  TaskNumbers scores(const std::vector<double>& right) const {
    const std::int64_t samples = config_.samples;
    double exact = 0, passed = 0;
    for (auto begin = right.begin(); begin != right.end(); begin += samples) {
      const auto c = static_cast<std::int64_t>(std::accumulate(begin, begin + samples, 0.0));
      exact += static_cast<double>(c) / static_cast<double>(samples);
      passed += pass_at_k(samples, c, config_.pass);
    }
    const double questions = static_cast<double>(questions_.size());
    TaskNumbers numbers{{"exact", exact / questions}};
    if (samples > 1) numbers.push_back({fmt::format("pass@{}", config_.pass), passed / questions});
    numbers.push_back({"questions", questions, true});
    return numbers;
  }

  TaskConfig config_;
  AnswerPattern pattern_;
  std::uint64_t hash_ = 0;
  std::vector<Question> questions_;
  std::vector<std::size_t> order_;  // of the questions, the longest prompt first
};

}  // namespace

std::unique_ptr<Task> open_exact_task(const TaskConfig& config, const core::DataConfig& data, const Subject& subject) {
  return std::make_unique<ExactTask>(config, data, subject);
}

}  // namespace muonp::launch
