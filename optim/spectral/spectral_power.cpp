#include "optim/spectral/spectral_power.h"

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/config/config.h"
#include "optim/spectral/methods.h"

namespace muonp::optim::spectral {
namespace {

// Float32 products keep neither smaller singular values nor smaller errors.
constexpr double kSmallestEpsilon = 1e-5, kSmallestTolerance = 1e-4;

void check_numbers(const SpectralOptions& o) {
  if (!(o.epsilon >= kSmallestEpsilon && o.epsilon < 1))
    core::fail("epsilon: {} is out of range; valid are numbers from {} up to 1, such as 1e-3", o.epsilon, kSmallestEpsilon);
  if (!(o.tolerance >= kSmallestTolerance && o.tolerance < 1))
    core::fail("tolerance: {} is out of range; valid are numbers from {} up to 1, such as 0.01", o.tolerance,
               kSmallestTolerance);
  MUONP_ASSERT(o.p.denominator >= 1 && 2 * o.p.numerator >= -o.p.denominator && o.p.numerator <= o.p.denominator,
               "p = {}/{}", o.p.numerator, o.p.denominator);
}

void check_dtype(const SpectralOptions& o, bool can_be_narrow) {
  if (o.dtype == core::Dtype::float32 || (can_be_narrow && o.dtype != core::Dtype::int32)) return;
  core::fail("dtype: {} cannot compute in {}; valid is float32{}", o.method, name_of(o.dtype),
             can_be_narrow ? ", bfloat16 where the processor has it, and on a GPU tf32 and float16" : "");
}

struct Entry {
  std::string_view name;
  Method (*make)(const SpectralOptions&);
  bool can_be_narrow, polar_only, counts_steps = false;
};
constexpr Entry kEntries[] = {{"coupled_minimax", make_coupled_minimax, true, false},
                              {"newton_schulz5", make_newton_schulz5, true, true, true},
                              {"symmetric_newton_schulz5", make_symmetric_newton_schulz5, true, true, true},
                              {"gram_newton_schulz", make_gram_newton_schulz, true, true, true},
                              {"polar_express", make_polar_express, true, true},
                              {"bivariate", make_bivariate, false, false},
                              {"coupled_newton", make_coupled_newton, false, false},
                              {"svd", make_svd, false, false}};
static_assert(std::size(kEntries) == std::size(kMethods));

const Entry& entry_of(std::string_view method) {
  for (const Entry& entry : kEntries)
    if (entry.name == method) return entry;
  const std::vector<std::string> valid(std::begin(kMethods), std::end(kMethods));
  core::fail("method: \"{}\" is unknown; did you mean \"{}\"? Valid are {}", method,
             core::nearest(std::string(method), valid), fmt::join(kMethods, ", "));
}

}  // namespace

bool is_polar_only(std::string_view method) { return entry_of(method).polar_only; }

bool is_stopped_after_steps(std::string_view method) { return entry_of(method).counts_steps; }

core::Dtype parse_storage(std::string_view name, std::string_view method, core::DeviceKind device) {
  using core::Dtype;
  const bool gpu = device == core::DeviceKind::cuda;
  if (name == "auto") return gpu && entry_of(method).can_be_narrow ? Dtype::float16 : Dtype::float32;
  if (std::ranges::find(kStorages, name) == std::end(kStorages))
    core::fail("dtype: \"{}\" is no storage of the spectral step; valid are {}", name, fmt::join(kStorages, ", "));
  const Dtype dtype = core::parse_dtype(name);
  if (!gpu && (dtype == Dtype::tf32 || dtype == Dtype::float16))
    core::fail("dtype: {} products are made by GPUs only; on a CPU auto, float32 and bfloat16 are valid", name);
  return dtype;
}

double epsilon_or_default(double epsilon, Exponent p, core::Dtype dtype) {
  if (epsilon != 0) return epsilon;
  return dtype != core::Dtype::float32 && p.numerator > 0 ? 1e-2 : 1e-3;
}

std::unique_ptr<SpectralPower> make_spectral_power(const SpectralOptions& options) {
  check_numbers(options);
  const Entry& entry = entry_of(options.method);
  check_dtype(options, entry.can_be_narrow);
  return entry.make(options);
}

}  // namespace muonp::optim::spectral
