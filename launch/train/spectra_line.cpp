#include "launch/train/spectra_line.h"

#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace muonp::launch {

namespace {

using Json = nlohmann::ordered_json;
using optim::spectral::Spectrum;

// What float32 knows of it, and no digit more.
double rounded(double value) { return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr); }

Json object_of(const Spectrum& s) {
  Json object;
  object["norm"] = rounded(s.norm);
  object["stable_rank"] = rounded(s.stable_rank);
  object["effective_rank"] = rounded(s.effective_rank);
  object["nuclear_ratio"] = rounded(s.nuclear_ratio);
  constexpr const char* kNames[] = {"sigma_min", "sigma_10", "sigma_50", "sigma_90", "sigma_max"};
  static_assert(std::size(kNames) == std::tuple_size_v<decltype(s.sigma)>);
  for (std::size_t i = 0; i < std::size(kNames); ++i) object[kNames[i]] = rounded(s.sigma[i]);
  return object;
}

// The figures of a matrix, by what they are of.
Json figures_of(const optim::MatrixRecord& record) {
  Json object = Json::object();
  const auto& [momentum, update, weight, alignment] = record.spectra;
  if (momentum) object["momentum"] = object_of(*momentum);
  if (update) object["update"] = object_of(*update);
  if (weight) object["weight"] = object_of(*weight);
  if (alignment) object["alignment"] = {{"cosine", rounded(alignment->cosine)}, {"gram", rounded(alignment->gram)}};
  if (record.feedback)
    object["feedback"] = {{"alpha_to_owner", rounded(record.feedback->alpha_to_owner)},
                          {"alpha_to_workers", rounded(record.feedback->alpha_to_workers)},
                          {"lag", rounded(record.feedback->lag)},
                          {"gap", rounded(record.feedback->gap)}};
  return object;
}

// Means over the matrices of a kind that have the figure, in the order in which kinds come first.
class Means {
 public:
  void add(const std::string& kind, const Json& figures) {
    for (const auto& [of, group] : figures.items())
      for (const auto& [figure, value] : group.items()) {
        const std::string key = fmt::format("{}{}.{}.{}", kSpectraPrefix, kind, of, figure);
        const auto [place, fresh] = place_.emplace(key, sums_.size());
        if (fresh) sums_.push_back({key, 0, 0});
        Sum& sum = sums_[place->second];
        sum.total += value.get<double>();
        ++sum.count;
      }
  }
  void write(Json& line) const {
    for (const Sum& sum : sums_) line[sum.key] = rounded(sum.total / sum.count);
  }

 private:
  struct Sum {
    std::string key;
    double total;
    int count;
  };
  std::vector<Sum> sums_;
  std::map<std::string, std::size_t> place_;
};

}  // namespace

std::string spectra_line(std::int64_t step, double seconds, std::span<const optim::MatrixRecord> records) {
  Json line = {{"step", step}, {"spectra_seconds", rounded(seconds)}};
  Json matrices = Json::object();
  Means means;
  for (const optim::MatrixRecord& record : records) {
    const Json figures = figures_of(record);
    means.add(record.kind, figures);
    Json& object = matrices[record.name];
    object = {{"kind", record.kind}, {"rows", record.rows}, {"cols", record.cols}};
    object.update(figures);
  }
  means.write(line);
  line["spectra"] = std::move(matrices);
  return line.dump();
}

}  // namespace muonp::launch
