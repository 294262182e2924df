// The kinds of evaluations (launch/evaluation/task.h).
#pragma once

#include "launch/evaluation/task.h"

namespace muonp::launch {

// The mean cross-entropy of a text's tokens: loss [nats per token], perplexity exp(loss), tokens.
std::unique_ptr<Task> open_text_task(const TaskConfig& config, const Subject& subject);

// Multiple choice. A line has a question, choices (at least two texts) and the answer: the index of the right one from 0,
// its text, or its letter (A is the first). acc: how often the right choice is the most likely one behind the prompt;
// acc_norm: how often it has the highest log-likelihood a byte; of equals the first counts.
std::unique_ptr<Task> open_choice_task(const TaskConfig& config, const Subject& subject);

// Answers that the model writes, compared with those of the file: exact, the share of right ones; pass@k. A line has prompt
// and completion, or messages, whose last answer is the reference.
std::unique_ptr<Task> open_exact_task(const TaskConfig& config, const core::DataConfig& data, const Subject& subject);

}  // namespace muonp::launch
