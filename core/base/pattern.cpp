#include "core/base/pattern.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace muonp::core {

bool matches_pattern(std::string_view pattern, std::string_view text) {
  // On a mismatch, the last * takes one more character; earlier ones never need to.
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

namespace {

// Edits that make the text match the pattern, where * takes any run for nothing.
int pattern_distance(std::string_view pattern, std::string_view text) {
  std::vector<int> row(text.size() + 1);
  for (std::size_t j = 0; j <= text.size(); ++j) row[j] = static_cast<int>(j);
  for (const char c : pattern) {
    int diagonal = row[0];
    row[0] += c != '*';
    for (std::size_t j = 1; j <= text.size(); ++j) {
      const int above = row[j], replaced = diagonal + (c != '?' && c != text[j - 1]);
      row[j] = c == '*' ? std::min(above, row[j - 1]) : std::min({replaced, above + 1, row[j - 1] + 1});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_to_pattern(std::string_view pattern, std::span<const std::string> names) {
  constexpr std::size_t kShown = 3;
  std::vector<std::pair<int, std::string_view>> ranked;
  for (const std::string& name : names) ranked.emplace_back(pattern_distance(pattern, name), name);
  std::ranges::stable_sort(ranked, {}, [](const auto& r) { return r.first; });
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, ranked.size()); ++i) text.append(i == 0 ? "" : ", ").append(ranked[i].second);
  return text;
}

}  // namespace muonp::core
