// Bytes, and the special tokens <s>, </s>, <im> and <end> with ids from 300 on; and what marked ids look like.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/index.h"
#include "core/data/finetuning/example_encoder.h"

namespace muonp::test {

class MarkTokenizer final : public core::Tokenizer {
 public:
  // `dummy`: puts a ^ before the first part of a text, as Llama 2's tokenizer puts a space.
  explicit MarkTokenizer(bool adds_begin, bool dummy = false) : adds_begin_(adds_begin), dummy_(dummy) {
    for (int i = 0; i < 256; ++i) bytes_.push_back(static_cast<char>(i));
  }
  std::string name() const override { return "marks"; }
  std::int64_t vocabulary() const override { return 304; }
  void encode_part(std::string_view text, bool first, core::Specials, std::vector<std::int32_t>& ids) const override {
    if (first && dummy_) ids.push_back('^');
    while (!text.empty()) {
      std::size_t length = 1;
      std::int32_t id = static_cast<unsigned char>(text[0]);
      for (std::size_t k = 0; k < marks_.size(); ++k)
        if (text.starts_with(marks_[k])) {
          length = marks_[k].size();
          id = 300 + static_cast<std::int32_t>(k);
        }
      ids.push_back(id);
      text.remove_prefix(length);
    }
  }
  std::string_view piece(std::int32_t id) const override {
    return id >= 300 ? std::string_view(marks_[core::at(id - 300)]) : std::string_view(bytes_).substr(core::at(id), 1);
  }
  bool is_special(std::int32_t id) const override { return id >= 300; }
  std::int32_t begin() const override { return 300; }
  std::int32_t end() const override { return 301; }
  bool adds_begin() const override { return adds_begin_; }
  std::int32_t id_of(std::string_view) const override { return -1; }
  std::uint64_t fingerprint() const override { return 7; }

 private:
  std::string bytes_;
  std::vector<std::string> marks_ = {"<s>", "</s>", "<im>", "<end>"};
  bool adds_begin_, dummy_;
};

// Learned stretches in brackets: "ab[cd]".
inline std::string shown(const core::MarkedIds& ids) {
  const MarkTokenizer tokenizer(false);
  std::string text;
  bool learned = false;
  for (const std::int32_t id : ids) {
    if ((id >= 0) != learned) text += learned ? "]" : "[";
    learned = id >= 0;
    text += tokenizer.piece(core::id_of_marked(id));
  }
  return text + (learned ? "]" : "");
}

// What a line of JSONL becomes.
inline std::string encoded(const std::string& line, const core::DataConfig& config = {}, bool adds_begin = true,
                           bool dummy = false, std::optional<core::ChatTemplate> chat = {}) {
  const core::ExampleEncoder encoder(config, std::make_shared<MarkTokenizer>(adds_begin, dummy), std::move(chat));
  return shown(encoder.encode(core::ExampleFormat(config).parse(line)));
}

}  // namespace muonp::test
