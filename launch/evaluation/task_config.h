// What a model is evaluated on, as `muonp eval` and the section `eval` of a run's configuration say it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/config.h"

namespace muonp::launch {

struct TaskConfig {
  std::string name;           // in tables and metrics; empty: the file's, without its ending
  std::string kind = "text";  // text | choices | exact
  std::string file;
  std::int64_t batch = 8;  // texts in a forward pass
  std::int64_t limit = 0;  // windows or lines, from the first; 0: all

  // text
  std::int64_t window = 0, stride = 0;  // tokens; 0: the model's context, at most kUsualWindow; half of the window
  // choices, exact: what the model is given, a text with {fields} of the line. Empty: {question} for choices; data.prompt
  // for exact (by resolve_templates()).
  std::string prompt;
  std::string choice = " {choice}";  // choices: what follows it
  std::string completion, messages;  // exact: as data.completion and data.messages
  std::string pattern;               // exact: what counts of an answer (launch/evaluation/answer_pattern.h)
  std::int64_t tokens = 128;         // exact: of an answer, at most
  double temperature = 0, top_p = 1, repetition_penalty = 1;
  std::int64_t top_k = 0;
  std::vector<std::string> stop;       // exact: strings that end an answer
  std::int64_t samples = 1, pass = 1;  // exact: answers to a prompt; k of pass@k
  std::int64_t seed = 1;               // exact: of the answers

  void describe(core::Fields& fields);
  // The name that it goes by.
  std::string title() const;
  // Error begins with `where`: no file, more of `pass` than of `samples`, several samples that would be the same.
  void validate(const std::string& where) const;
};

inline constexpr std::int64_t kUsualWindow = 1024;

// A task that is done while training.
struct TrainingTask {
  TaskConfig task;
  std::int64_t every = 0;  // steps between evaluations; 0: after the last step only
  bool at_start = false;   // before the first step too

  void describe(core::Fields& fields);
};

}  // namespace muonp::launch
