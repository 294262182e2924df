// The Llama family in double precision, written plainly from its definition: one token after another, no batching, no
// fusion.
#pragma once

#include <cmath>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include "models/llama/llama.h"

namespace muonp::models::testing {

class LlamaReference {
 public:
  using Vector = std::vector<double>;
  using Weights = std::map<std::string, Vector>;  // by parameter name, row-major

  LlamaReference(const LlamaConfig& resolved, const Weights& weights) : c_(resolved), w_(weights) {}

  // Logits of every position of one document.
  std::vector<Vector> logits(const std::vector<std::int32_t>& tokens) const {
    std::vector<Vector> x;
    const Vector& table = w_.at("model.embed_tokens.weight");
    for (const std::int32_t token : tokens)
      x.emplace_back(table.begin() + token * c_.width, table.begin() + (token + 1) * c_.width);
    for (std::int64_t i = 0; i < c_.layers; ++i) block("model.layers." + std::to_string(i), x);
    for (Vector& v : x) v = matrix(c_.tied_head ? "model.embed_tokens" : "lm_head", norm(w_.at("model.norm.weight"), v));
    return x;
  }

  // Of all documents seen so far, the largest attention logits of a layer's attention by head.
  const Vector& largest_logits(const std::string& attention) const { return largest_.at(attention); }

  // Sum over the targets that are not −1.
  double sum_of_losses(const std::vector<std::int32_t>& inputs, const std::vector<std::int32_t>& targets) const {
    const std::vector<Vector> all = logits(inputs);
    double total = 0;
    for (std::size_t t = 0; t < all.size(); ++t) {
      if (targets[t] < 0) continue;
      double normaliser = 0;
      for (const double l : all[t]) normaliser += std::exp(l);
      total += std::log(normaliser) - all[t][std::size_t(targets[t])];
    }
    return total;
  }

 private:
  Vector matrix(const std::string& name, const Vector& x) const {
    const Vector& w = w_.at(name + ".weight");
    const auto bias = w_.find(name + ".bias");
    Vector y(w.size() / x.size());
    for (std::size_t o = 0; o < y.size(); ++o) {
      y[o] = bias == w_.end() ? 0 : bias->second[o];
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
    }
    return y;
  }
  Vector norm(const Vector& gain, const Vector& x) const {
    double square = 0;
    for (const double v : x) square += v * v / double(x.size());
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::sqrt(square + c_.norm_epsilon) * gain[i];
    return y;
  }

  // One head's query or key, at a position of a sequence of so many tokens.
  Vector placed(Vector v, const std::string& gain, std::size_t position, std::size_t tokens) const {
    if (c_.qk_norm) v = norm(w_.at(gain), v);
    const RopeFrequencies f = rope_frequencies(c_.rope, c_.head_size, c_.context, std::int64_t(tokens));
    const std::size_t half = v.size() / 2;
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = double(position) * f.frequencies[i], a = v[i], b = v[half + i];
      v[i] = f.scale * (a * std::cos(angle) - b * std::sin(angle));
      v[half + i] = f.scale * (a * std::sin(angle) + b * std::cos(angle));
    }
    return v;
  }
  Vector head_of(const Vector& all, std::int64_t head) const {
    return {all.begin() + head * c_.head_size, all.begin() + (head + 1) * c_.head_size};
  }

  struct Projected {
    std::vector<Vector> q, k, v;  // by position
  };

  Vector attend(const std::string& name, const Projected& all, std::size_t t) const {
    Vector y;
    Vector& largest = largest_.try_emplace(name, std::size_t(c_.heads), -INFINITY).first->second;
    for (std::int64_t h = 0; h < c_.heads; ++h) {
      const std::int64_t shared = h / (c_.heads / c_.kv_heads);
      const Vector query = placed(head_of(all.q[t], h), name + ".q_norm.weight", t, all.q.size());
      Vector sum(std::size_t(c_.head_size), 0.0);
      double total = 0;
      for (std::size_t j = 0; j <= t; ++j) {
        if (c_.window > 0 && std::int64_t(t - j) >= c_.window) continue;
        const Vector key = placed(head_of(all.k[j], shared), name + ".k_norm.weight", j, all.q.size());
        const Vector value = head_of(all.v[j], shared);
        double score = 0;
        for (std::size_t i = 0; i < key.size(); ++i) score += query[i] * key[i];
        largest[std::size_t(h)] = std::max(largest[std::size_t(h)], score / std::sqrt(double(c_.head_size)));
        const double weight = std::exp(score / std::sqrt(double(c_.head_size)));
        for (std::size_t i = 0; i < key.size(); ++i) sum[i] += weight * value[i];
        total += weight;
      }
      for (const double s : sum) y.push_back(s / total);
    }
    return y;
  }

  Vector mlp(const std::string& name, const Vector& x) const {
    Vector hidden = matrix(name + ".gate_proj", x);
    const Vector up = matrix(name + ".up_proj", x);
    for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] *= up[i] / (1 + std::exp(-hidden[i]));
    return matrix(name + ".down_proj", hidden);
  }

  void block(const std::string& name, std::vector<Vector>& x) const {
    Projected all;
    for (const Vector& v : x) {
      const Vector n = norm(w_.at(name + ".input_layernorm.weight"), v);
      all.q.push_back(matrix(name + ".self_attn.q_proj", n));
      all.k.push_back(matrix(name + ".self_attn.k_proj", n));
      all.v.push_back(matrix(name + ".self_attn.v_proj", n));
    }
    for (std::size_t t = 0; t < x.size(); ++t) {
      add(x[t], matrix(name + ".self_attn.o_proj", attend(name + ".self_attn", all, t)));
      add(x[t], mlp(name + ".mlp", norm(w_.at(name + ".post_attention_layernorm.weight"), x[t])));
    }
  }
  static void add(Vector& to, const Vector& more) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += more[i];
  }

  LlamaConfig c_;
  const Weights& w_;
  mutable std::map<std::string, Vector> largest_;
};

}  // namespace muonp::models::testing
