#include <algorithm>
#include <numeric>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/data/finetuning/example.h"
#include "core/data/finetuning/json_line.h"
#include "launch/evaluation/kinds.h"
#include "launch/evaluation/task_lines.h"
#include "launch/evaluation/token_losses.h"

namespace muonp::launch {

using core::BadExample;
using core::Tensor;
using nlohmann::json;

namespace {

struct Choice {
  std::vector<std::int32_t> ids;  // of the prompt, then of what follows it
  std::int64_t scored = 0;        // ids at the end: of what follows
  std::int64_t bytes = 0;         // of the choice
};

struct Question {
  std::size_t first = 0, count = 0;  // its choices
  std::size_t answer = 0;            // among them
};

std::vector<std::string> choices_of(const json& object) {
  const auto found = object.find("choices");
  if (found == object.end()) throw BadExample("it has no choices");
  if (!found->is_array() || found->size() < 2) throw BadExample("its choices are no list of at least two texts");
  std::vector<std::string> choices;
  for (const json& choice : *found) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty())
      throw BadExample(fmt::format("choice {} is {}, no text", choices.size(), choice.dump()));
    choices.push_back(choice.get<std::string>());
  }
  return choices;
}

// A choice's text goes before a letter.
std::size_t answer_of(const json& object, const std::vector<std::string>& choices) {
  const auto found = object.find("answer");
  if (found == object.end()) throw BadExample("it has no answer");
  if (core::is_count(*found) && found->get<std::size_t>() < choices.size()) return found->get<std::size_t>();
  if (found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    if (const auto same = std::ranges::find(choices, text); same != choices.end()) return core::at(same - choices.begin());
    if (text.size() == 1 && std::isalpha(static_cast<unsigned char>(text[0])) != 0)
      if (const auto letter = static_cast<std::size_t>((text[0] | 0x20) - 'a'); letter < choices.size()) return letter;
  }
  throw BadExample(fmt::format("its answer {} is none of the {} choices: no index from 0, no text of one, no letter from A",
                               found->dump(), choices.size()));
}

class ChoiceTask final : public Task {
 public:
  ChoiceTask(const TaskConfig& config, const Subject& subject)
      : batch_(config.batch),
        prompt_(config.prompt.empty() ? "{question}" : config.prompt, config.title() + ": prompt"),
        follows_(config.choice, config.title() + ": choice") {
    if (follows_.fields() != std::vector<std::string>{"choice"})
      core::fail("{}: choice: '{}' does not have {{choice}}, and that alone", config.title(), config.choice);
    hash_ = read_task_lines(config.file, config.limit, [&](std::string_view line, std::int64_t number) {
      add(core::parse_json_line(line), subject, place_of(config.file, number));
    });
    order_.resize(choices_.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::ranges::stable_sort(order_, std::greater(), [&](std::size_t i) { return choices_[i].ids.size(); });
  }

  std::uint64_t fingerprint() const override { return hash_; }

  TaskNumbers run(const Subject& subject, const OnItems& on_items, std::vector<TaskAnswer>*) const override {
    const std::vector<double> losses = numbers_of_items(
        subject, std::ssize(choices_), batch_, on_items,
        [&](Passes& passes, std::int64_t first, std::span<double> to) { read(subject, passes, first, to); });
    std::vector<double> by_choice(losses.size()), by_byte(losses.size());
    for (std::size_t i = 0; i < order_.size(); ++i) {
      by_choice[order_[i]] = losses[i];
      by_byte[order_[i]] = losses[i] / static_cast<double>(choices_[order_[i]].bytes);
    }
    const double count = static_cast<double>(questions_.size());
    return {{"acc", right(by_choice) / count}, {"acc_norm", right(by_byte) / count}, {"questions", count, true}};
  }

 private:
  void add(const json& object, const Subject& subject, const std::string& place) {
    const std::vector<std::string> texts = choices_of(object);
    questions_.push_back({choices_.size(), texts.size(), answer_of(object, texts)});
    const std::string prompt = core::fill_fields(prompt_, object);
    const std::vector<std::int32_t> ids = encode_prompt(*subject.tokenizer, prompt);
    require_room(subject, ids.size(), place);
    for (const std::string& text : texts) {
      Choice& choice = choices_.emplace_back();
      choice.ids = ids;
      const std::string follows = follows_.fill([&](const std::string&) { return text; });
      subject.tokenizer->encode_part(follows, prompt.empty(), core::Specials::parse, choice.ids);
      choice.scored = std::ssize(choice.ids) - std::ssize(ids);
      choice.bytes = std::ssize(text);
      if (std::ssize(choice.ids) > subject.model.context())
        core::fail("{}: with a choice the prompt has {} tokens; the model's context is {}", place, choice.ids.size(),
                   subject.model.context());
    }
  }

  void read(const Subject& subject, Passes& passes, std::int64_t first, std::span<double> to) const {
    const std::int64_t rows = std::ssize(to);
    const std::int64_t time = std::ssize(choices_[order_[core::at(first)]].ids) - 1;  // the longest comes first
    const auto ids = [&](std::int32_t value) {
      const Tensor tensor = Tensor::on_host({rows, time}, core::Dtype::int32);
      std::ranges::fill(tensor.span<std::int32_t>(), value);
      return tensor;
    };
    const models::TokenBatch batch{ids(0), ids(-1)};
    for (std::int64_t i = 0; i < rows; ++i) {
      const Choice& choice = choices_[order_[core::at(first + i)]];
      const std::int64_t last = std::ssize(choice.ids) - 1;
      std::copy_n(choice.ids.begin(), last, batch.inputs.data<std::int32_t>() + i * time);
      std::copy_n(choice.ids.end() - choice.scored, choice.scored,
                  batch.targets.data<std::int32_t>() + i * time + last - choice.scored);
    }
    std::ranges::copy(summed_losses(subject, passes, batch), to.begin());
  }

  double right(const std::vector<double>& losses) const {
    return static_cast<double>(std::ranges::count_if(questions_, [&](const Question& q) {
      const auto begin = losses.begin() + static_cast<std::ptrdiff_t>(q.first);
      return core::at(std::min_element(begin, begin + static_cast<std::ptrdiff_t>(q.count)) - begin) == q.answer;
    }));
  }

  std::int64_t batch_;
  core::FieldTemplate prompt_, follows_;
  std::uint64_t hash_ = 0;
  std::vector<Question> questions_;
  std::vector<Choice> choices_;
  std::vector<std::size_t> order_;  // of the choices, the longest first
};

}  // namespace

std::unique_ptr<Task> open_choice_task(const TaskConfig& config, const Subject& subject) {
  return std::make_unique<ChoiceTask>(config, subject);
}

}  // namespace muonp::launch
