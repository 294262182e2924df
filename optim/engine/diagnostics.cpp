#include "optim/engine/diagnostics.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/base/index.h"

namespace muonp::optim {

using core::at;

namespace {

core::MatrixView view_of(const core::Tensor& tensor, const MatrixPlace& place) {
  return {tensor.data<float>() + place.offset, place.rows, place.cols, place.pitch};
}

}  // namespace

bool Diagnostics::wants(int parameter) const { return is_measured(patterns_, specs_[at(parameter)].name); }

void Diagnostics::measure(std::span<const Input> inputs) {
  std::vector<spectral::Measured> matrices;
  const std::size_t before = measured_.size();
  for (const Input& input : inputs) {
    if (!wants(input.parameter)) continue;
    const dist::ParameterSpec& spec = specs_[at(input.parameter)];
    int index = 0;
    for (const MatrixPlace& place : matrices_of(spec.name, spec.shape, groups_.split_of(input.parameter))) {
      matrices.push_back({view_of(input.momentum, place), view_of(input.update, place), view_of(input.weight, place)});
      measured_.push_back({indices_[at(input.parameter)], index++, {}, std::nullopt});
    }
  }
  const std::vector<spectral::Spectra> spectra = spectral::measure_spectra(device_, matrices);
  for (std::size_t i = 0; i < spectra.size(); ++i) measured_[before + i].spectra = spectra[i];
}

void Diagnostics::add(int parameter, const FeedbackFigures& figures) {
  for (MeasuredMatrix& m : measured_)
    if (m.parameter == indices_[at(parameter)]) m.feedback = figures;
}

std::vector<MatrixRecord> gather_records(dist::Communicator& communicator, const core::ParameterList& parameters,
                                         const Groups& groups, const std::vector<MeasuredMatrix>& mine) {
  static_assert(std::is_trivially_copyable_v<MeasuredMatrix>);
  const std::string bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(MeasuredMatrix));
  std::vector<MeasuredMatrix> all;
  for (const std::string& of_rank : communicator.all_gather_bytes(bytes)) {
    const std::size_t before = all.size();
    all.resize(before + of_rank.size() / sizeof(MeasuredMatrix));
    if (!of_rank.empty()) std::memcpy(all.data() + before, of_rank.data(), of_rank.size());
  }
  std::ranges::sort(all, {}, [](const MeasuredMatrix& m) { return std::tuple(m.parameter, m.matrix); });
  std::vector<MatrixRecord> records;
  for (const MeasuredMatrix& m : all) {
    const core::Parameter& parameter = *parameters[at(m.parameter)];
    const std::vector<MatrixPlace> places = matrices_of(parameter.name, parameter.shape, groups.split_of(m.parameter));
    const MatrixPlace& place = places[at(m.matrix)];
    records.push_back(
        {parameter.name + place.label, kind_of(parameter.name, place.label), place.rows, place.cols, m.spectra, m.feedback});
  }
  return records;
}

}  // namespace muonp::optim
