// What the singular values of a matrix say in a few numbers, for people who watch a run (docs/diagnostics.md has the
// definitions and their sources).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/device/blas.h"

namespace muonp::optim::spectral {

// Of a matrix with singular values σ₁ ≥ … ≥ σₙ, n = min(rows, cols). Of a zero matrix all are 0.
struct Spectrum {
  double norm = 0;                // ‖A‖_F
  double stable_rank = 0;         // ‖A‖_F²/σ₁²
  double effective_rank = 0;      // exp of the entropy of σ²/Σσ²
  double nuclear_ratio = 0;       // Σσ/‖A‖_F
  std::array<double, 5> sigma{};  // quantiles at kQuantiles, linear between two values
};
inline constexpr std::array kQuantiles = {0.0, 0.1, 0.5, 0.9, 1.0};

// From the squares of all singular values, ascending, each at least 0, and the norm.
Spectrum spectrum_of(std::span<const double> squares, double norm);

// Of a momentum N and a weight matrix W; 0 where it is not defined: of a zero matrix, and for the second where one of the
// matrices has no direction that leads (one row, singular values that are all equal).
struct Alignment {
  double cosine = 0;  // ⟨N, W⟩/(‖N‖‖W‖)
  double gram = 0;    // the same of the Gram matrices of the smaller side, each less its mean eigenvalue on the diagonal
};

struct Spectra {
  std::optional<Spectrum> momentum, update, weight;  // none where an entry is not finite
  std::optional<Alignment> alignment;                // with both of them
};

// What is measured together: three matrices of one shape, float32, on the device.
struct Measured {
  core::MatrixView momentum, update, weight;

  std::int64_t small() const { return momentum.rows < momentum.cols ? momentum.rows : momentum.cols; }
};

// Of each, from Gram matrices in float32: singular values below kResolution·n^¼·σ₁ cannot be told from 0, and count as that.
// Matrices without elements have spectra of zeros.
inline constexpr double kResolution = 0x1p-12;
std::vector<Spectra> measure_spectra(core::Device& device, std::span<const Measured> matrices);

// Of the measurement of one matrix of that shape: operations as executed.
double spectra_flops(std::int64_t rows, std::int64_t cols, core::DeviceKind device);
// Bytes of scratch memory, at most, whatever lies beside it. Views need no data.
std::int64_t spectra_bytes(std::span<const Measured> matrices, core::DeviceKind device);

}  // namespace muonp::optim::spectral
