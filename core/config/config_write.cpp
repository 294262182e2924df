// write_config and config_reference: the same description, printed.
#include <utility>

#include "core/base/error.h"
#include "core/config/config_values.h"

namespace muonp::core {
namespace {

// Prints `key: value` lines. With comments, each key is preceded by a line of meaning and valid values.
class Writer : public Fields {
 public:
  Writer(bool comments, std::string margin) : comments_(comments), margin_(std::move(margin)) {}

  void integer(std::string_view name, std::int64_t& value, IntegerRange valid, std::string_view meaning) override {
    line(name, fmt::format("{}", value), meaning, config::describe_valid(valid), value >= valid.min && value <= valid.max);
  }
  void real(std::string_view name, double& value, RealRange valid, std::string_view meaning) override {
    line(name, config::format_real(value), meaning, config::describe_valid(valid), value >= valid.min && value <= valid.max);
  }
  void step_value(std::string_view name, StepValue& value, RealRange valid, std::string_view meaning) override {
    line(name, value.text(), meaning, config::describe_valid(valid) + ", or a schedule, as 0.85@1 0.95@300",
         value.smallest() >= valid.min && value.largest() <= valid.max);
  }
  void step_text(std::string_view name, StepText& value, std::string_view meaning) override {
    line(name, config::format_text(value.text()), meaning, "a text, or a schedule, as A@1 B@300");
  }
  void boolean(std::string_view name, bool& value, std::string_view meaning) override {
    line(name, value ? "true" : "false", meaning, "true or false");
  }
  void text(std::string_view name, std::string& value, std::string_view meaning, Presence presence) override {
    line(name, config::format_text(value), meaning, "a text", presence == Presence::optional || !value.empty());
  }
  void choice(std::string_view name, std::string& value, std::span<const std::string_view> valid,
              std::string_view meaning) override {
    std::string words = "one of ";
    for (std::size_t i = 0; i < valid.size(); ++i) words += fmt::format("{}{}", i == 0 ? "" : ", ", valid[i]);
    line(name, config::format_text(value), meaning, words);
  }
  void text_list(std::string_view name, std::vector<std::string>& value, std::string_view meaning) override {
    std::string items;
    for (const std::string& item : value) items += (items.empty() ? "" : ", ") + config::format_text(item);
    line(name, "[" + items + "]", meaning, "a list of texts");
  }

  void section(std::string_view name, const std::function<void(Fields&)>& describe, std::string_view meaning) override {
    if (comments_ && margin_.empty() && !out_.empty()) out_ += "\n";
    comment(meaning, "");
    const std::string body = nested(margin_ + "  ", describe);
    begin_line();
    out_ += body.empty() ? fmt::format("{}: {{}}\n", name) : fmt::format("{}:\n{}", name, body);
  }

  void section_list(std::string_view name, std::size_t size, const std::function<void(std::size_t)>& resize,
                    const std::function<void(std::size_t, Fields&)>& describe, std::string_view meaning) override {
    comment(meaning, "a list of sections");
    begin_line();
    out_ += fmt::format("{}:{}\n", name, size == 0 ? " []" : "");
    for (std::size_t i = 0; i < size; ++i) entry([&](Fields& fields) { describe(i, fields); }, i == 0);
    if (size == 0 && comments_) example(resize, describe);
  }

  void others_if(std::string_view condition, const std::function<void(Fields&)>& describe) override {
    if (!comments_) return;
    out_ += fmt::format("{}# Only with {}:\n", margin_, condition);
    comment_out(nested("", describe), margin_ + "#   ");
  }

  std::string written() { return std::move(out_); }

 private:
  void begin_line() { out_ += std::exchange(marker_, margin_); }

  void comment(std::string_view meaning, const std::string& valid) {
    if (!comments_) return;
    out_ += fmt::format("{}# {}{}\n", margin_, meaning, valid.empty() ? "" : fmt::format(" ({})", valid));
  }

  // A reference leaves a key that has to be given empty.
  void line(std::string_view name, const std::string& value, std::string_view meaning, const std::string& valid,
            bool has_default = true) {
    comment(meaning, has_default ? valid : valid + ", required");
    begin_line();
    out_ += comments_ && !has_default ? fmt::format("{}:\n", name) : fmt::format("{}: {}\n", name, value);
  }

  std::string nested(const std::string& margin, const Describe& describe) const {
    Writer inner(comments_, margin);
    describe(inner);
    return inner.written();
  }

  // One entry of a list; its first key stands behind the dash.
  void entry(const Describe& describe, bool with_comments) {
    Writer inner(comments_ && with_comments, margin_ + "    ");
    if (!inner.comments_) inner.marker_ = margin_ + "  - ";
    describe(inner);
    const std::string body = inner.written();
    if (body.empty()) {
      out_ += margin_ + "  - {}\n";
    } else {
      out_ += inner.comments_ ? fmt::format("{}  -\n{}", margin_, body) : body;
    }
  }

  // What an entry of an empty list may hold, commented out. The list is empty again afterwards.
  void example(const std::function<void(std::size_t)>& resize, const std::function<void(std::size_t, Fields&)>& describe) {
    resize(1);
    const std::string body = nested("", [&](Fields& fields) { describe(0, fields); });
    resize(0);
    out_ += margin_ + "  #   -\n";
    comment_out(body, margin_ + "  #     ");
  }

  void comment_out(const std::string& body, const std::string& prefix) {
    for (std::size_t begin = 0; begin < body.size();) {
      const std::size_t end = body.find('\n', begin);
      out_ += prefix + body.substr(begin, end - begin) + "\n";
      begin = end + 1;
    }
  }

  bool comments_;
  std::string margin_;
  std::string marker_ = margin_;
  std::string out_;
};

std::string print(bool comments, const Describe& describe) {
  Writer writer(comments, "");
  describe(writer);
  return writer.written();
}

}  // namespace

std::string write_config(const Describe& describe) { return print(false, describe); }

std::string config_reference(const Describe& describe) { return print(true, describe); }

}  // namespace muonp::core
