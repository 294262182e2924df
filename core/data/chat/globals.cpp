#include "core/data/chat/globals.h"

#include <array>
#include <ctime>

#include "core/base/error.h"
#include "core/data/chat/operations.h"

namespace muonp::core::jinja {
namespace {

constexpr std::int64_t kMostNumbers = 100'000;

Value raise_exception(const Arguments& a) {
  fail("the template refuses this conversation: {}", argument(a, 0, "message").printed());
}

Value strftime_now(const Arguments& a) {
  const std::string& format = require_text(argument(a, 0, "format"), "the format of a time");
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  std::array<char, 256> text{};
  const std::size_t bytes = std::strftime(text.data(), text.size(), format.c_str(), &parts);
  if (bytes == 0 && !format.empty()) fail("'{}' gives no time", format);
  return Value(std::string(text.data(), bytes));
}

Value dictionary(const Arguments& a, bool is_namespace) {
  Dictionary all;
  if (!a.positional.empty() && a.positional[0].is_dictionary()) all = a.positional[0].dictionary();
  all.is_namespace = is_namespace;
  for (const auto& [name, value] : a.named) all.members.emplace_back(name, value);
  return Value(std::move(all));
}

Value range(const Arguments& a) {
  const bool one = a.positional.size() == 1;
  const auto number = [&](std::size_t i) { return require_integer(argument(a, i, ""), "an argument of range"); };
  const std::int64_t begin = one ? 0 : number(0), end = number(one ? 0 : 1), step = a.positional.size() > 2 ? number(2) : 1;
  if (step == 0) fail("the step of range is 0");
  List all;
  bool more = true;  // until a step leads beyond the largest integers, and so beyond every end
  for (std::int64_t i = begin; more && (step > 0 ? i < end : i > end); more = !__builtin_add_overflow(i, step, &i)) {
    if (std::ssize(all) >= kMostNumbers) fail("a range of more than {} numbers", kMostNumbers);
    all.emplace_back(i);
  }
  return Value(std::move(all));
}

}  // namespace

const NamedValues& globals() {
  static const NamedValues kGlobals = {
      {"raise_exception", Value(Function(raise_exception))},
      {"strftime_now", Value(Function(strftime_now))},
      {"namespace", Value(Function([](const Arguments& a) { return dictionary(a, true); }))},
      {"dict", Value(Function([](const Arguments& a) { return dictionary(a, false); }))},
      {"range", Value(Function(range))},
  };
  return kGlobals;
}

}  // namespace muonp::core::jinja
