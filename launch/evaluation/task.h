// An evaluation: what it is made of, read and checked once, and done as often as wanted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/config.h"
#include "launch/evaluation/task_config.h"
#include "launch/inference/passes.h"

namespace muonp::launch {

struct TaskNumber {
  std::string name;  // "loss", "tokens"
  double value = 0;
  bool count = false;  // a whole number
};
// "0.1250", "1234": as a person reads it.
std::string text_of(const TaskNumber& number);
using TaskNumbers = std::vector<TaskNumber>;

// An answer that a model gave.
struct TaskAnswer {
  std::int64_t line = 0;  // of the file, from 1
  std::int64_t sample = 0;
  std::string answer, found, reference;  // all of it; what counts of it, and what that was compared with
  bool right = false;
};

class Task {
 public:
  virtual ~Task() = default;
  // Differs where numbers may differ for what is evaluated; of one task on all ranks the same.
  virtual std::uint64_t fingerprint() const = 0;
  // The numbers are the same on all ranks, and at any number of them. `answers`, where it is not null, gets those of a task
  // that has answers, on every rank all. Collective. Throws Interrupted on all ranks when one is asked to stop.
  virtual TaskNumbers run(const Subject& subject, const OnItems& on_items, std::vector<TaskAnswer>* answers) const = 0;
};

// Reads the file with the subject's tokenizer. What the configuration leaves empty is as in `data`, which also names the
// chat template. Error: what is wrong with the configuration, the file (with its line), or a text that does not fit in the
// model's context.
std::unique_ptr<Task> open_task(const TaskConfig& config, const core::DataConfig& data, const Subject& subject);

// The windows of a text, as a task of kind `text` goes through them. Window i sees the tokens [i·stride, i·stride + window);
// what counts are those of them that no window before it has seen, but for the first token, which follows nothing.
class TextWindows {
 public:
  TextWindows(const TaskConfig& config, const Subject& subject);

  std::int64_t count() const;
  std::int64_t counted() const { return end(count() - 1) - 1; }  // targets, of all windows
  std::int64_t longest() const;                                  // inputs of a window, at most
  const std::vector<std::int32_t>& tokens() const { return tokens_; }
  // The tokens of the first one, also the last of them.
  std::vector<std::int32_t> first() const;
  // Inputs and targets of window i, longest() of each: those that are not counted are −1, as what stands behind its end.
  void read(std::int64_t i, std::span<std::int32_t> inputs, std::span<std::int32_t> targets) const;

 private:
  std::int64_t end(std::int64_t i) const;
  std::vector<std::int32_t> tokens_;
  std::int64_t window_, stride_, limit_;
};

// The logits of all tokens of the first window: [tokens, vocabulary], on the host. This rank alone.
std::vector<float> first_logits(const TextWindows& windows, const Subject& subject);

}  // namespace muonp::launch
