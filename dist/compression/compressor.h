// What crosses the network instead of a matrix. A compressor C is contractive: ‖C(X) − X‖² ≤ (1 − α)‖X‖² for every X, in the
// Frobenius norm, with the constant α in (0, 1] that it states; error feedback (dist/compression/error_feedback.h) needs no
// more than that. docs/compression.md has the wire formats and derives the constants.
//
//   identity           float32                                               α = 1
//   top_k F            the fraction F of largest magnitude, float32          α = k/n
//   top_k_natural F    the same, each rounded to a power of two              α = 8/9 · k/n
//   natural            every entry rounded to the nearest power of two       α = 8/9
//   sign               ± the mean magnitude of its block of 256              α = 1/256 (1/n below that)
//   int2 … int8        B bits: 1/L of the largest magnitude M of its block   α = 4L²/(4L² + 255)
//                      of 256, L = 2^(B−1) − 1
//   rank R             P Qᵀ with R columns, by one step of power iteration   α = R/min(rows, cols)
//
// n = rows · cols, k = max(1, ⌈F·n⌉).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/tensor.h"

namespace muonp::dist {

enum class CompressorKind : std::uint8_t { identity, top_k, top_k_natural, natural, sign, integer, rank };

struct CompressorSpec {
  CompressorKind kind = CompressorKind::identity;
  double fraction = 0;       // of top_k and top_k_natural, in (0, 1]
  std::int64_t rank = 0;     // of rank, at least 1
  int bits = 0;              // of integer, 2 to 8
  std::string text() const;  // as parse_compressor() takes it: "top_k 0.05"
  bool operator==(const CompressorSpec&) const = default;
};
CompressorSpec parse_compressor(std::string_view text);  // Error lists the valid forms

// The random start of a low-rank compressor is a function of these and nothing else.
struct CompressionKey {
  std::uint64_t matrix = 0;  // a hash of its name and direction
  std::uint64_t step = 0;
  int rank = 0;  // that sends
};

// Compressor of matrices of one shape. Its results depend on the values alone, not on the number of threads.
class Compressor {
 public:
  Compressor(std::int64_t rows, std::int64_t cols) : rows_(rows), cols_(cols) {}
  virtual ~Compressor() = default;
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t size() const { return rows_ * cols_; }

  virtual double alpha() const = 0;
  virtual std::int64_t wire_bytes() const = 0;                // of a message, exactly
  virtual std::int64_t state_elements() const { return 0; }   // float32 that the sender keeps between messages
  virtual std::int64_t workspace_bytes() const { return 0; }  // that encode() or decode() allocate, at most
  // C(X) is X itself: an estimate is then overwritten, which is exact, and not added to.
  virtual bool exact() const { return false; }

  // x: float32, size() elements, left as it is; wire: wire_bytes() of memory; state: state_elements(), zero before the
  // first message.
  virtual void encode(core::Device& device, const core::Tensor& x, const core::Tensor& state, const CompressionKey& key,
                      const core::Tensor& wire) const = 0;
  // out = weight·C(X), or out + weight·C(X); float32, size() elements.
  virtual void decode(core::Device& device, const core::Tensor& wire, float weight, bool add,
                      const core::Tensor& out) const = 0;

 private:
  std::int64_t rows_, cols_;
};

std::unique_ptr<Compressor> make_compressor(const CompressorSpec& spec, std::int64_t rows, std::int64_t cols);

}  // namespace muonp::dist
