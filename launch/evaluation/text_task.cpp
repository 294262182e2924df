#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/device/host_view.h"
#include "core/files/files.h"
#include "launch/evaluation/kinds.h"
#include "launch/evaluation/token_losses.h"

namespace muonp::launch {

using core::Tensor;

TextWindows::TextWindows(const TaskConfig& config, const Subject& subject) : limit_(config.limit) {
  const std::string text = core::read_file(config.file);
  tokens_ = encode_prompt(*subject.tokenizer, text);
  if (subject.tokenizer->adds_end() && subject.tokenizer->end() >= 0) tokens_.push_back(subject.tokenizer->end());
  if (tokens_.size() < 2)
    core::fail("{}: the text has {} tokens; it takes 2, since the first follows nothing", config.file, tokens_.size());
  const std::int64_t context = subject.model.context();
  window_ = config.window > 0 ? config.window : std::min(context, kUsualWindow);
  if (window_ < 2 || window_ > context)
    core::fail("{}: a window of {} tokens; it is at least 2 and at most the model's context of {}", config.title(), window_,
               context);
  stride_ = config.stride > 0 ? config.stride : std::max<std::int64_t>(1, window_ / 2);
  if (stride_ >= window_)
    core::fail("{}: a stride of {} tokens; it is less than the window of {}, so that each token follows one", config.title(),
               stride_, window_);
}

std::int64_t TextWindows::count() const {
  const std::int64_t beyond = std::max<std::int64_t>(0, std::ssize(tokens_) - window_);
  const std::int64_t all = 1 + (beyond + stride_ - 1) / stride_;
  return limit_ > 0 ? std::min(limit_, all) : all;
}

std::int64_t TextWindows::end(std::int64_t i) const { return std::min(std::ssize(tokens_), i * stride_ + window_); }

std::int64_t TextWindows::longest() const { return std::min(std::ssize(tokens_), window_) - 1; }

std::vector<std::int32_t> TextWindows::first() const {
  return {tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(end(0))};
}

void TextWindows::read(std::int64_t i, std::span<std::int32_t> inputs, std::span<std::int32_t> targets) const {
  const std::int64_t begin = i * stride_, seen = i == 0 ? 1 : end(i - 1);
  for (std::int64_t t = 0; t < std::ssize(inputs); ++t) {
    const std::int64_t target = begin + t + 1;
    const bool there = target < end(i);
    inputs[core::at(t)] = there ? tokens_[core::at(target - 1)] : 0;
    targets[core::at(t)] = there && target >= seen ? tokens_[core::at(target)] : -1;
  }
}

std::vector<float> first_logits(const TextWindows& windows, const Subject& subject) {
  std::vector<std::int32_t> tokens = windows.first();
  core::Tape tape(subject.device, false);
  const Tensor logits =
      subject.model.logits(tape, Tensor::borrow(tokens.data(), {1, std::ssize(tokens)}, core::Dtype::int32));
  const core::HostView host(subject.device.queue(), logits, core::Access::read);
  const std::span<const float> values = host.span<float>();
  return {values.begin(), values.end()};
}

namespace {

class TextTask final : public Task {
 public:
  TextTask(const TaskConfig& config, const Subject& subject) : batch_(config.batch), windows_(config, subject) {}

  std::uint64_t fingerprint() const override {
    const std::vector<std::int32_t>& ids = windows_.tokens();
    return core::hash_bytes(ids.data(), std::ssize(ids) * 4, static_cast<std::uint64_t>(windows_.count()));
  }

  TaskNumbers run(const Subject& subject, const OnItems& on_items, std::vector<TaskAnswer>*) const override {
    const std::vector<double> sums = numbers_of_items(
        subject, windows_.count(), batch_, on_items,
        [&](Passes& passes, std::int64_t first, std::span<double> to) { read(subject, passes, first, to); });
    double sum = 0;
    for (const double window : sums) sum += window;
    const std::int64_t tokens = windows_.counted();
    const double loss = sum / static_cast<double>(tokens);
    return {{"loss", loss}, {"perplexity", std::exp(loss)}, {"tokens", static_cast<double>(tokens), true}};
  }

 private:
  // The sums of the losses of windows [first, first + to.size()).
  void read(const Subject& subject, Passes& passes, std::int64_t first, std::span<double> to) const {
    const std::int64_t rows = std::ssize(to), time = windows_.longest();
    const models::TokenBatch batch{Tensor::on_host({rows, time}, core::Dtype::int32),
                                   Tensor::on_host({rows, time}, core::Dtype::int32)};
    for (std::int64_t i = 0; i < rows; ++i)
      windows_.read(first + i, batch.inputs[i].span<std::int32_t>(), batch.targets[i].span<std::int32_t>());
    std::ranges::copy(summed_losses(subject, passes, batch), to.begin());
  }

  std::int64_t batch_;
  TextWindows windows_;
};

}  // namespace

std::unique_ptr<Task> open_text_task(const TaskConfig& config, const Subject& subject) {
  return std::make_unique<TextTask>(config, subject);
}

}  // namespace muonp::launch
