#include "core/data/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/tokenizer/json_fields.h"
#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMostIds = 4'000'000;  // an id beyond is damage: memory is set aside up to the largest

class Reader {
 public:
  Reader(const std::string& file, const TokenizerConfig& config) : file_(file), json_(read_json_file(file)) {
    if (!json_.is_object() || !part("model").is_object()) fail("{} is no tokenizer.json: it has no object `model`", file);
    result_.normalizer = Normalizer(part("normalizer"), where("normalizer"));
    result_.splitter = WordSplitter(part("pre_tokenizer"), where("pre_tokenizer"));
    read_vocabulary();
    read_model();
    read_decoder(part("decoder"), where("decoder"));
    read_added_tokens(config);
    read_post_processor(part("post_processor"), where("post_processor"));
    fill_pieces();
  }
  TokenizerJson take() { return std::move(result_); }

 private:
  std::string where(const char* name) const { return fmt::format("{}: {}", file_, name); }
  const Json& part(const char* name) const {
    static const Json none;
    const auto found = json_.find(name);
    return found == json_.end() ? none : *found;
  }

  std::int32_t checked_id(const Json& value, const std::string& place) const {
    if (!is_count(value) || value.get<std::int64_t>() >= kMostIds)
      fail("{}: {} is no id; ids are 0 to {}", place, value.dump(), kMostIds - 1);
    return value.get<std::int32_t>();
  }

  void read_vocabulary() {
    const Json& model = part("model");
    const auto vocabulary = model.find("vocab");
    const std::string type = model.contains("type") ? type_of(model, where("model")) : "BPE";
    if (type != "BPE") fail("{}: model.type {} is not supported; BPE is", file_, type);
    if (vocabulary == model.end() || !vocabulary->is_object() || vocabulary->empty())
      fail("{}: model.vocab is no object with tokens", file_);
    for (const auto& [token, id] : vocabulary->items())
      result_.ids.emplace(token, checked_id(id, fmt::format("{}: model.vocab[{}]", file_, Json(token).dump())));
  }

  std::int32_t id_of(const std::string& token) const {
    const auto found = result_.ids.find(token);
    return found == result_.ids.end() ? -1 : found->second;
  }

  void read_model() {
    const Json& model = part("model");
    const std::string place = where("model");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const auto mark = model.find(name); mark != model.end() && !mark->is_null() && *mark != "")
        fail("{}.{}: {} is not supported; it must be empty", place, name, mark->dump());
    if (const auto dropout = model.find("dropout"); dropout != model.end() && !dropout->is_null() && *dropout != 0)
      fail("{}.dropout: {} is not supported: ids would differ from call to call", place, dropout->dump());
    BpeOptions options;
    options.byte_level = result_.splitter.byte_level();
    options.ignore_merges = flag_field(model, "ignore_merges", false, place);
    options.byte_fallback = flag_field(model, "byte_fallback", false, place);
    options.fuse_unknown = flag_field(model, "fuse_unk", false, place);
    if (const auto unknown = model.find("unk_token"); unknown != model.end() && !unknown->is_null()) {
      options.unknown = id_of(text_field(model, "unk_token", place));
      if (options.unknown < 0) fail("{}.unk_token: {} is no token of model.vocab", place, unknown->dump());
    }
    std::vector<std::pair<std::string, std::int32_t>> tokens;
    for (const auto& [token, id] : result_.ids)
      tokens.emplace_back(options.byte_level ? bytes_of_spelling(token) : token, id);
    result_.model = BpeModel(options, tokens, read_merges(list_field(model, "merges", place)));
  }

  std::vector<BpeModel::Merge> read_merges(const Json& list) const {
    std::vector<BpeModel::Merge> merges;
    merges.reserve(list.size());
    for (const Json& merge : list) {
      const std::string place = fmt::format("{}: model.merges[{}]", file_, merges.size());
      const auto [left, right] = merge_pair(merge, place);
      merges.push_back({id_of(left), id_of(right), id_of(left + right)});
      if (merges.back().left < 0 || merges.back().right < 0 || merges.back().result < 0)
        fail("{}: '{}', '{}' or the two together are no token of model.vocab", place, left, right);
    }
    return merges;
  }

  // ["Ġ", "t"], or "Ġ t" in older files.
  static std::pair<std::string, std::string> merge_pair(const Json& merge, const std::string& place) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    if (!merge.is_string()) fail("{}: {} is no pair of tokens", place, merge.dump());
    const std::string text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
      fail("{}: '{}' is no pair of tokens with one space between", place, text);
    return {text.substr(0, space), text.substr(space + 1)};
  }

  void read_decoder(const Json& description, const std::string& place) {
    const std::string type = type_of(description, place);
    PieceDecoding& decoding = result_.decoding;
    if (type == "Sequence") {
      std::size_t i = 0;
      for (const Json& step : list_field(description, "decoders", place))
        read_decoder(step, fmt::format("{}.decoders[{}]", place, i++));
    } else if (type == "Replace") {
      decoding.replacements.emplace_back(pattern_field(description, place).pattern(),
                                         text_field(description, "content", place));
    } else if (type == "ByteFallback") {
      decoding.bytes = true;
    } else if (type == "Strip") {
      decoding.leading = text_field(description, "content", place);
      if (!description.contains("start") || !is_count(description["start"]) || description.value("stop", Json(0)) != 0)
        fail("{}: Strip is supported at the start only", place);
      decoding.leading_most = description["start"].get<std::size_t>();
    } else if (type == "Metaspace") {
      decoding.replacements.emplace_back(text_field(description, "replacement", place), std::string(1, ' '));
      decoding.leading = std::string(1, ' ');
      decoding.leading_most = result_.splitter.prefix().empty() ? 0 : 1;
    } else if (!type.empty() && type != "ByteLevel" && type != "Fuse") {
      fail(
          "{}: the decoder {} is not supported; supported are ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, "
          "Sequence",
          place, type);
    }
  }

  void read_added_tokens(const TokenizerConfig& config) {
    if (part("added_tokens").is_null()) return add_missing(config);
    std::size_t i = 0;
    for (const Json& description : list_field(json_, "added_tokens", file_)) {
      const std::string place = fmt::format("{}: added_tokens[{}]", file_, i++);
      if (!description.is_object() || !description.contains("id")) fail("{}.id is missing", place);
      add(read_added_token(description, checked_id(description["id"], place + ".id"), place), place);
    }
    add_missing(config);
  }

  void add_missing(const TokenizerConfig& config) {
    for (const AddedToken& token : config.added_tokens)
      if (!is_added_.contains(token.content)) add(token, config.path + ": added_tokens_decoder");
  }

  void add(AddedToken token, const std::string& place) {
    const auto [known, added] = result_.ids.emplace(token.content, token.id);
    if (!added && known->second != token.id)
      fail("{}: '{}' has id {}, but {} in model.vocab", place, token.content, token.id, known->second);
    if (token.id >= kMostIds)
      fail("{}: '{}' has id {}; the largest possible is {}", place, token.content, token.id, kMostIds - 1);
    is_added_.emplace(token.content, token.special);
    const bool normalized = token.normalized && !result_.normalizer.empty();
    if (normalized) {
      std::string buffer;
      RegexWork work;
      token.content = std::string(result_.normalizer.apply(token.content, Place::start, buffer, work));
    }
    (token.normalized ? result_.normalized : result_.raw).add(std::move(token));
  }

  void read_post_processor(const Json& description, const std::string& place) {
    const std::string type = type_of(description, place);
    if (type == "Sequence") {
      std::size_t i = 0;
      for (const Json& step : list_field(description, "processors", place))
        read_post_processor(step, fmt::format("{}.processors[{}]", place, i++));
    } else if (type == "TemplateProcessing") {
      read_template(list_field(description, "single", place), place);
    } else if (!type.empty() && type != "ByteLevel") {
      fail("{}: the post-processor {} is not supported; supported are ByteLevel, TemplateProcessing, Sequence", place, type);
    }
  }

  void read_template(const Json& single, const std::string& place) {
    bool before = true;
    for (const Json& item : single) {
      if (item.contains("Sequence")) {
        before = false;
        continue;
      }
      if (!item.contains("SpecialToken")) fail("{}.single: {} is no token and no sequence", place, item.dump());
      std::string& token = before ? result_.begin : result_.end;
      if (!token.empty()) fail("{}.single: more than one token on a side is not supported", place);
      token = text_field(item["SpecialToken"], "id", place + ".single.SpecialToken");
      if (id_of(token) < 0) fail("{}.single: '{}' is no token", place, token);
    }
  }

  void fill_pieces() {
    std::int32_t largest = 0;
    for (const auto& [token, id] : result_.ids) largest = std::max(largest, id);
    result_.pieces.resize(at(largest) + 1);
    result_.special.resize(at(largest) + 1);
    for (const auto& [token, id] : result_.ids) {
      const auto added = is_added_.find(token);
      result_.special[at(id)] = added != is_added_.end() && added->second;
      result_.pieces[at(id)] = added != is_added_.end() ? token : decoded(token);
    }
  }

  std::string decoded(const std::string& token) const {
    if (result_.splitter.byte_level()) return bytes_of_spelling(token);
    const PieceDecoding& decoding = result_.decoding;
    if (decoding.bytes && token.size() == 6 && token.starts_with("<0x") && token[5] == '>' &&
        token.find_first_not_of("0123456789ABCDEFabcdef", 3) == 5)
      return {static_cast<char>(std::stoi(token.substr(3, 2), nullptr, 16))};
    std::string text = token;
    for (const auto& [from, to] : decoding.replacements)
      for (std::size_t found = text.find(from); found != std::string::npos; found = text.find(from, found + to.size()))
        text.replace(found, from.size(), to);
    return text;
  }

  const std::string& file_;
  Json json_;
  TokenizerJson result_;
  std::unordered_map<std::string, bool> is_added_;  // whether special
};

}  // namespace

TokenizerJson read_tokenizer_json(const std::string& file, const TokenizerConfig& config) {
  return Reader(file, config).take();
}

}  // namespace muonp::core
