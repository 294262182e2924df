#include "dist/compression/compressor.h"

#include <charconv>
#include <cmath>

#include "dist/compression/kinds.h"

namespace muonp::dist {

namespace {

enum class Argument : std::uint8_t { none, fraction, rank, bits };
struct Name {
  CompressorKind kind;
  std::string_view text;
  Argument argument;
};
constexpr Name kNames[] = {{CompressorKind::identity, "identity", Argument::none},
                           {CompressorKind::top_k, "top_k", Argument::fraction},
                           {CompressorKind::top_k_natural, "top_k_natural", Argument::fraction},
                           {CompressorKind::natural, "natural", Argument::none},
                           {CompressorKind::sign, "sign", Argument::none},
                           {CompressorKind::integer, "int", Argument::bits},
                           {CompressorKind::rank, "rank", Argument::rank}};

[[noreturn]] void refuse(std::string_view text) {
  core::fail(
      "'{}' is no compressor; valid are identity, top_k F, top_k_natural F, natural, sign, int2 to int8, "
      "rank R (F: a fraction above 0 and at most 1; R: a number of columns from 1 on)",
      text);
}

template <class T>
T number(std::string_view argument, std::string_view whole) {
  T value{};
  const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), value);
  if (error != std::errc() || end != argument.data() + argument.size()) refuse(whole);
  return value;
}

}  // namespace

CompressorSpec parse_compressor(std::string_view text) {
  const std::size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  std::string_view argument = space == std::string_view::npos ? "" : text.substr(space + 1);
  while (argument.starts_with(' ')) argument.remove_prefix(1);
  if (text.size() == 4 && text.starts_with("int") && text[3] >= '2' && text[3] <= '8')
    return {.kind = CompressorKind::integer, .bits = text[3] - '0'};
  for (const Name& name : kNames) {
    if (word != name.text || name.argument == Argument::bits) continue;
    CompressorSpec spec{.kind = name.kind};
    if ((name.argument == Argument::none) != argument.empty()) refuse(text);
    if (name.argument == Argument::fraction) spec.fraction = number<double>(argument, text);
    if (name.argument == Argument::rank) spec.rank = number<std::int64_t>(argument, text);
    const bool fraction_fits = spec.fraction > 0 && spec.fraction <= 1;
    if ((name.argument == Argument::fraction && !fraction_fits) || (name.argument == Argument::rank && spec.rank < 1))
      refuse(text);
    return spec;
  }
  refuse(text);
}

std::string CompressorSpec::text() const {
  for (const Name& name : kNames) {
    if (name.kind != kind) continue;
    if (name.argument == Argument::fraction) return fmt::format("{} {}", name.text, fraction);
    if (name.argument == Argument::rank) return fmt::format("{} {}", name.text, rank);
    if (name.argument == Argument::bits) return fmt::format("{}{}", name.text, bits);
    return std::string(name.text);
  }
  throw core::InternalError("unknown compressor");
}

std::unique_ptr<Compressor> make_compressor(const CompressorSpec& spec, std::int64_t rows, std::int64_t cols) {
  MUONP_ASSERT(rows >= 1 && cols >= 1, "a compressor of [{}, {}]", rows, cols);
  switch (spec.kind) {
    case CompressorKind::identity:
      return compression::make_identity(rows, cols);
    case CompressorKind::top_k:
      return compression::make_top_k(rows, cols, spec.fraction, false);
    case CompressorKind::top_k_natural:
      return compression::make_top_k(rows, cols, spec.fraction, true);
    case CompressorKind::natural:
      return compression::make_natural(rows, cols);
    case CompressorKind::sign:
      return compression::make_sign(rows, cols);
    case CompressorKind::integer:
      return compression::make_integer(rows, cols, spec.bits);
    case CompressorKind::rank:
      return compression::make_low_rank(rows, cols, spec.rank);
  }
  throw core::InternalError("unknown compressor");
}

}  // namespace muonp::dist
