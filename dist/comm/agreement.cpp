#include "dist/comm/agreement.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "core/base/hash.h"
#include "core/base/hostname.h"
#include "core/base/index.h"

namespace muonp::dist {

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// "rank 3", "ranks 0, 2, 3" or "all ranks".
std::string name_ranks(const std::vector<std::size_t>& ranks, std::size_t size) {
  if (ranks.size() == size && size > 1) return "all ranks";
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

// Enough of a long line to see where it differs from `other`.
std::string excerpt(const std::string& line, const std::string& other) {
  constexpr std::size_t kBefore = 60, kLength = 160;
  if (line.size() <= kLength) return line;
  const auto at =
      static_cast<std::size_t>(std::mismatch(line.begin(), line.end(), other.begin(), other.end()).first - line.begin());
  const std::size_t begin = at > kBefore ? at - kBefore : 0;
  return (begin > 0 ? "..." : "") + line.substr(begin, kLength) + (begin + kLength < line.size() ? "..." : "");
}

std::string first_difference(const std::vector<std::string>& descriptions) {
  std::vector<std::vector<std::string>> lines;
  std::size_t longest = 0;
  for (const std::string& d : descriptions) {
    lines.push_back(lines_of(d));
    longest = std::max(longest, lines.back().size());
  }
  for (std::size_t i = 0; i < longest; ++i) {
    std::map<std::string, std::vector<std::size_t>> versions;
    for (std::size_t r = 0; r < lines.size(); ++r)
      versions[i < lines[r].size() ? lines[r][i] : "(no such line)"].push_back(r);
    if (versions.size() == 1) continue;
    const std::string &a = versions.begin()->first, &b = std::next(versions.begin())->first;
    std::string text = fmt::format("line {} is", i + 1);
    for (const auto& [line, ranks] : versions)
      text += fmt::format("\n  on {}: {}", name_ranks(ranks, lines.size()), excerpt(line, line == a ? b : a));
    return text;
  }
  return {};
}

std::string hash_table(const std::vector<std::string>& hashes) {
  std::string text = "the hashes are";
  for (std::size_t r = 0; r < hashes.size(); ++r) text += fmt::format("\n  on rank {}: {}", r, hashes[r]);
  return text;
}

}  // namespace

void require_agreement(Communicator& communicator, std::string_view what, std::uint64_t hash,
                       const std::string& description) {
  const auto hashes = communicator.all_gather_bytes(fmt::format("{:016x}", hash));
  if (std::all_of(hashes.begin(), hashes.end(), [&](const std::string& h) { return h == hashes[0]; })) return;
  std::string difference = first_difference(communicator.all_gather_bytes(description));
  if (difference.empty()) difference = hash_table(hashes);
  throw AgreedError(fmt::format("{} differs between ranks: {}", what, difference));
}

namespace {

// Halves of 32 bits are exact as doubles; the least of a value and of its opposite say whether it is one on all ranks.
bool same_on_all(Communicator& communicator, std::uint64_t hash) {
  const auto high = static_cast<double>(hash >> 32), low = static_cast<double>(hash & 0xffffffff);
  std::array<double, 4> least = {high, low, -high, -low};
  communicator.all_reduce(least, Reduce::min);
  return least[0] == -least[2] && least[1] == -least[3];
}

constexpr char kEnd = '\0';  // of a name, a value, and the host's name in front of them

std::string text_of(const core::NamedValues& values) {
  std::string text;
  for (const core::NamedValue& v : values) text += v.name + kEnd + v.value + kEnd;
  return text;
}

struct HostValues {
  std::string host;
  core::NamedValues values;
};

HostValues values_of(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, kEnd);) parts.push_back(part);
  HostValues result{parts.at(0), {}};
  for (std::size_t i = 1; i + 1 < parts.size(); i += 2) result.values.push_back({parts[i], parts[i + 1]});
  return result;
}

std::string explain_difference(const HostValues& zero, const HostValues& other, int rank, int ranks) {
  const std::size_t both = std::min(zero.values.size(), other.values.size());
  const auto [a, b] =
      std::mismatch(zero.values.begin(), zero.values.begin() + static_cast<std::ptrdiff_t>(both), other.values.begin());
  // Names differ where two versions of the program do.
  const auto value = [](auto at, const core::NamedValues& values) {
    return at == values.end() ? "nothing" : at->value.empty() ? "''" : at->value;
  };
  const bool other_name = a != zero.values.end() && b != other.values.end() && a->name != b->name;
  const std::string name = a != zero.values.end() ? a->name : b->name;
  return fmt::format(
      "{} differs between ranks: it is {} on rank 0 of {} ({}), {} on rank {} ({}); all ranks need the same "
      "program, configuration and data",
      name, value(a, zero.values), ranks, zero.host, other_name ? "not known" : value(b, other.values), rank, other.host);
}

}  // namespace

void require_same(Communicator& communicator, const core::NamedValues& mine) {
  const std::string text = text_of(mine);
  if (same_on_all(communicator, core::hash_bytes(text.data(), std::ssize(text)))) return;
  // Only two of the ranks say what they have.
  const auto from = [&](int rank) {
    const bool me = communicator.rank() == rank;
    return communicator.all_gather_bytes(me ? core::hostname() + kEnd + text : "")[core::at(rank)];
  };
  const HostValues zero = values_of(from(0));
  std::array<double, 1> first = {static_cast<double>(zero.values == mine ? communicator.size() : communicator.rank())};
  communicator.all_reduce(first, Reduce::min);
  const int other = static_cast<int>(first[0]);
  throw AgreedError(explain_difference(zero, values_of(from(other)), other, communicator.size()));
}

bool all_agree(Communicator& communicator, bool mine) {
  std::array<double, 1> value = {mine ? 1.0 : 0.0};
  communicator.all_reduce(value, Reduce::min);
  return value[0] == 1.0;
}

namespace {

// Empty when nothing failed, else host, a line break and the message.
std::string failure_text(const std::exception_ptr& failure) {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const core::InternalError& e) {
    return core::hostname() + "\ninternal error: " + e.what();
  } catch (const std::exception& e) {
    const std::string refusal = core::system_refusal(e);
    return core::hostname() + "\n" + (refusal.empty() ? e.what() : refusal);
  } catch (...) {
    return core::hostname() + "\nan exception that is no std::exception";
  }
}

}  // namespace

void rethrow_on_all(Communicator& communicator, std::exception_ptr local) {
  const auto texts = communicator.all_gather_bytes(failure_text(local));
  std::vector<std::pair<std::string, std::vector<std::size_t>>> messages;  // in order of the first rank
  for (std::size_t r = 0; r < texts.size(); ++r) {
    if (texts[r].empty()) continue;
    const std::string message = texts[r].substr(texts[r].find('\n') + 1);
    auto known = std::find_if(messages.begin(), messages.end(), [&](const auto& m) { return m.first == message; });
    if (known == messages.end()) known = messages.insert(known, {message, {}});
    known->second.push_back(r);
  }
  if (messages.empty()) return;
  if (messages.size() == 1 && messages[0].second.size() == texts.size()) throw AgreedError(messages[0].first);
  std::string text;
  for (const auto& [message, ranks] : messages) {
    const std::string& first = texts[ranks[0]];
    const std::string host = first.substr(0, first.find('\n'));
    text += fmt::format("{}{}{}: {}", text.empty() ? "" : "\n", name_ranks(ranks, texts.size()),
                        ranks.size() == 1 ? fmt::format(" of {} on {}", texts.size(), host) : "", message);
  }
  throw AgreedError(text);
}

}  // namespace muonp::dist
