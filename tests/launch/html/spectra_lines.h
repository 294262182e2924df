// Lines as docs/diagnostics.md describes them, for tests of what reads them.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <string>

namespace muonp::test {

// One figure of a spectrum that flattens as the steps go by: σ of quantile q is 10^(-3 (1 - q) exp(-step/200)).
inline std::string spectrum_figures(const std::string& prefix, int step, int layer) {
  const double decades = 3 * std::exp(-step / 200.0);
  std::string text;
  const auto add = [&](const std::string& name, double value) {
    text += fmt::format("{}\"{}{}\":{:.6g}", text.empty() ? "" : ",", prefix, name, value);
  };
  add("norm", 0.1);
  add("stable_rank", 2 + layer + 0.02 * step);
  add("effective_rank", 20 + layer + 0.1 * step);
  const std::pair<const char*, double> quantiles[] = {
      {"sigma_min", 0}, {"sigma_10", 0.1}, {"sigma_50", 0.5}, {"sigma_90", 0.9}, {"sigma_max", 1}};
  for (const auto& [name, q] : quantiles) add(name, std::pow(10, -decades * (1 - q)));
  return text;
}

inline std::string spectra_line(int step) {
  std::string kinds, matrices;
  for (const std::string kind : {"attention.qkv.weight", "mlp.up.weight"}) {
    for (const std::string of : {"momentum", "update", "weight"})
      kinds += spectrum_figures(fmt::format("spectra.blocks.{}.{}.", kind, of), step, 1) + ",";
    kinds += fmt::format("\"spectra.blocks.{0}.alignment.cosine\":{1:.4g},\"spectra.blocks.{0}.alignment.gram\":0.1,", kind,
                         -1e-3 * step);
    for (int layer = 0; layer < 4; ++layer) {
      matrices += fmt::format("{}\"blocks.{}.{}\":{{\"kind\":\"blocks.{}\",\"rows\":64,\"cols\":32",
                              matrices.empty() ? "" : ",", layer, kind, kind);
      for (const std::string of : {"momentum", "update", "weight"})
        matrices += fmt::format(",\"{}\":{{{}}}", of, spectrum_figures("", step, layer));
      matrices += "}";
    }
  }
  return fmt::format("{{\"step\":{},\"spectra_seconds\":0.01,{}\"spectra\":{{{}}}}}\n", step, kinds, matrices);
}

// One line every tenth step up to `last`; the last alone where there are no more.
inline std::string spectra_lines(int last, int first = 0) {
  std::string lines;
  for (int step = first > 0 ? first : last; step <= last; step += 10) lines += spectra_line(step);
  return lines;
}

}  // namespace muonp::test
