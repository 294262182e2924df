// The keys of a rule that computes a spectral power: by which recurrence, how exactly, in which storage.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/config/config.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::optim {

struct SpectralKeys {
  std::string method = "coupled_minimax", dtype = "auto";
  double epsilon = 0, tolerance = 0.01;

  void describe_spectral(core::Fields& fields);
  // Error for an exponent that is none, and a dtype that the device cannot multiply.
  spectral::SpectralOptions spectral_options(std::string_view exponent, core::DeviceKind device) const;
  // Error that begins with `path` for an exponent or a dtype that the method cannot do on any device.
  void require_possible(const std::string& path, std::string_view exponent) const;
};

}  // namespace muonp::optim
