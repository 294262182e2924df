#include "optim/rules/spectral_keys.h"

#include "core/base/error.h"

namespace muonp::optim {

void SpectralKeys::describe_spectral(core::Fields& f) {
  f.choice("method", method, spectral::kMethods, "recurrence that computes U S^p V^T");
  f.real("epsilon", epsilon, {.min = 0, .max = 0.5},
         "singular values above this fraction of the largest are raised to p within the tolerance; 0 is 1e-2 where iterates "
         "have fewer bits than float32 and p > 0, else 1e-3");
  f.real("tolerance", tolerance, {.min = 1e-6, .max = 0.5}, "relative error of sigma^p to design for");
  f.choice("dtype", dtype, spectral::kStorages, "storage of the iterates; auto is float32 on a CPU and float16 on a GPU");
}

spectral::SpectralOptions SpectralKeys::spectral_options(std::string_view exponent, core::DeviceKind device) const {
  const spectral::Exponent p = spectral::parse_exponent(exponent);
  const core::Dtype storage = spectral::parse_storage(dtype, method, device);
  return {.method = method,
          .p = p,
          .epsilon = spectral::epsilon_or_default(epsilon, p, storage),
          .tolerance = tolerance,
          .dtype = storage};
}

void SpectralKeys::require_possible(const std::string& path, std::string_view exponent) const {
  try {
    spectral::make_spectral_power(spectral_options(exponent, core::DeviceKind::cuda));  // knows every dtype
  } catch (const core::Error& e) {
    core::fail("{}: {}", path, e.what());
  }
}

}  // namespace muonp::optim
