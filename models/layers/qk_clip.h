// QK-clip of MuonClip (Kimi K2, arXiv 2507.20534, section 2.1). Where the largest attention logit of a head over the batch
// of a step,
//
//   S_h = max q_i·k_j / √size   over the pairs that attention sees,
//
// is above tau, the weights that make queries and keys are multiplied after the step: with γ_h = tau / S_h
//
//   W_q,h ← γ_h^alpha W_q,h,   W_k,h ← γ_h^(1 − alpha) W_k,h,
//
// and their biases with them, so that the same batch would have had tau at most. Rotary positions turn queries and keys and
// change no such factor. What the paper does not say, of a key head that several query heads read, is `shared_keys`:
//
//   keep   as the paper keeps the rotary keys that all heads share: W_k stays, and each W_q,h takes all of γ_h
//   scale  W_k takes γ^(1 − alpha) with the least γ of the group, and each W_q,h what is then left of its own γ_h
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/autograd/ops/linear.h"
#include "core/autograd/scaled_elements.h"
#include "core/config/config.h"
#include "core/device/attention_shape.h"

namespace muonp::models {

struct QkClipConfig {
  bool enabled = false;
  double tau = 100;
  double alpha = 0.5;                // the queries' share of γ, as a power
  std::string shared_keys = "keep";  // keep | scale

  void describe(core::Fields& fields);
  // Error names the key ("model.qk_clip.tau").
  void check() const;
};

// What the heads of a layer are multiplied by; 1 where nothing is clipped.
struct HeadFactors {
  std::vector<double> queries, keys;  // by query head, by key head
};
// `largest`: S_h by query head.
HeadFactors head_factors(const QkClipConfig& config, const core::AttentionHeads& heads, std::span<const double> largest);

// The rows of a linear layer from which heads are made: head h is rows first_row + [h, h + 1)·size.
struct HeadRows {
  core::ops::LinearPart layer;
  std::int64_t first_row;
};

// Of a model: its layers, and the largest logits of the passes of a step on this rank.
class QkClip {
 public:
  QkClip(const QkClipConfig& config, const core::AttentionHeads& heads) : config_(config), heads_(heads) {}
  void add_layer(const HeadRows& queries, const HeadRows& keys) { layers_.push_back({queries, keys}); }

  // Before the passes of a step whose logits count.
  void forget() { fresh_ = true; }
  // float32 [layers, query heads] on the device, which attention raises (core/autograd/ops/attention.h); −∞ at first.
  const core::Tensor& raised(core::Device& device);
  // S of the passes since forget() on this rank, [layers · query heads]; the step's is the maximum over ranks.
  std::vector<double> largest(core::Queue& queue) const;

  // What a step multiplies weights by, from S of all ranks; nothing where no logit is above tau.
  std::vector<core::ScaledElements> scales(std::span<const double> largest) const;
  // Heads whose logit is.
  std::int64_t clipped(std::span<const double> largest) const;

 private:
  struct Layer {
    HeadRows queries, keys;
  };
  QkClipConfig config_;
  core::AttentionHeads heads_;
  std::vector<Layer> layers_;
  core::Tensor raised_;
  bool fresh_ = true;
};

}  // namespace muonp::models
