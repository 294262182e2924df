// GPT in double precision, written plainly from its definition: one token after another, no batching, no
// fusion.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "models/gpt/gpt.h"

namespace muonp::models::testing {

using Vector = std::vector<double>;
using Weights = std::map<std::string, Vector>;  // by parameter name, row-major

class GptReference {
 public:
  GptReference(const GptConfig& config, const Weights& weights) : c_(config), w_(weights) {}

  // Logits of every position of one sequence.
  std::vector<Vector> logits(const std::vector<std::int32_t>& tokens) const {
    std::vector<Vector> x;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      x.push_back(row("token_embedding.weight", std::size_t(tokens[t])));
      if (c_.positions == "learned") x[t] = sum(x[t], row("position_embedding.weight", t));
    }
    for (std::int64_t i = 0; i < c_.layers; ++i) block("blocks." + std::to_string(i), x);
    for (Vector& v : x) v = matrix(c_.tied_head ? "token_embedding" : "head", norm("final_norm", v));
    return x;
  }

  // Of all sequences seen so far, the largest attention logits of a block by head.
  const Vector& largest_logits(const std::string& block) const { return largest_.at(block); }

  // Mean over the targets that are not −1, of several sequences.
  double loss(const std::vector<std::vector<std::int32_t>>& inputs,
              const std::vector<std::vector<std::int32_t>>& targets) const {
    double total = 0;
    int count = 0;
    for (std::size_t b = 0; b < inputs.size(); ++b) {
      const std::vector<Vector> all = logits(inputs[b]);
      for (std::size_t t = 0; t < all.size(); ++t) {
        if (targets[b][t] < 0) continue;
        double normaliser = 0;
        for (const double l : all[t]) normaliser += std::exp(l);
        total += std::log(normaliser) - all[t][std::size_t(targets[b][t])];
        ++count;
      }
    }
    return total / count;
  }

 private:
  const Vector* find(const std::string& name) const {
    const auto at = w_.find(name);
    return at == w_.end() ? nullptr : &at->second;
  }
  Vector row(const std::string& name, std::size_t index) const {
    const auto begin = w_.at(name).begin() + std::ptrdiff_t(index) * c_.width;
    return {begin, begin + c_.width};
  }
  static Vector sum(Vector a, const Vector& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }

  Vector matrix(const std::string& name, const Vector& x) const {
    const Vector& w = w_.at(name + ".weight");
    const Vector* bias = find(name + ".bias");
    Vector y(w.size() / x.size());
    for (std::size_t o = 0; o < y.size(); ++o) {
      y[o] = bias ? (*bias)[o] : 0;
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
    }
    return y;
  }

  Vector norm(const std::string& name, const Vector& x) const {
    const Vector& gain = w_.at(name + ".weight");
    const Vector* bias = find(name + ".bias");
    double mean = 0, square = 0;
    if (c_.norm == "layer_norm")
      for (const double v : x) mean += v / double(x.size());
    for (const double v : x) square += (v - mean) * (v - mean) / double(x.size());
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = (x[i] - mean) / std::sqrt(square + 1e-5) * gain[i] + (bias ? (*bias)[i] : 0);
    return y;
  }

  // Turns a head's query or key to its position.
  void rotate(double* v, std::size_t position) const {
    const std::size_t size = std::size_t(c_.head_size()), half = size / 2;
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = double(position) / std::pow(10000.0, 2.0 * double(i) / double(size));
      const double a = v[i], b = v[half + i];
      v[i] = a * std::cos(angle) - b * std::sin(angle);
      v[half + i] = a * std::sin(angle) + b * std::cos(angle);
    }
  }

  Vector attend(const std::string& name, const std::vector<Vector>& qkv, std::size_t t) const {
    const std::size_t width = std::size_t(c_.width), size = std::size_t(c_.head_size());
    Vector y(width, 0.0);
    Vector& largest = largest_.try_emplace(name, std::size_t(c_.heads), -INFINITY).first->second;
    for (std::size_t h = 0; h < std::size_t(c_.heads); ++h) {
      Vector weight(t + 1);
      double total = 0;
      for (std::size_t j = 0; j <= t; ++j) {
        double score = 0;
        for (std::size_t i = h * size; i < (h + 1) * size; ++i) score += qkv[t][i] * qkv[j][width + i];
        largest[h] = std::max(largest[h], score / std::sqrt(double(size)));
        total += weight[j] = std::exp(score / std::sqrt(double(size)));
      }
      for (std::size_t j = 0; j <= t; ++j)
        for (std::size_t i = h * size; i < (h + 1) * size; ++i) y[i] += weight[j] / total * qkv[j][2 * width + i];
    }
    return y;
  }

  Vector mlp(const std::string& name, const Vector& x) const {
    if (c_.activation == "swiglu") {
      const Vector both = matrix(name + ".gate_up", x);
      Vector hidden(both.size() / 2);
      for (std::size_t i = 0; i < hidden.size(); ++i)
        hidden[i] = both[i] / (1 + std::exp(-both[i])) * both[hidden.size() + i];
      return matrix(name + ".down", hidden);
    }
    Vector hidden = matrix(name + ".up", x);
    for (double& v : hidden)
      v = c_.activation == "relu2" ? (v > 0 ? v * v : 0)
                                   : v / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    return matrix(name + ".down", hidden);
  }

  void block(const std::string& name, std::vector<Vector>& x) const {
    std::vector<Vector> qkv;
    for (std::size_t t = 0; t < x.size(); ++t) {
      qkv.push_back(matrix(name + ".attention.qkv", norm(name + ".attention_norm", x[t])));
      if (c_.positions == "rotary")
        for (std::int64_t h = 0; h < 2 * c_.heads; ++h) rotate(qkv[t].data() + h * c_.head_size(), t);
    }
    for (std::size_t t = 0; t < x.size(); ++t) {
      x[t] = sum(x[t], matrix(name + ".attention.projection", attend(name, qkv, t)));
      x[t] = sum(x[t], mlp(name + ".mlp", norm(name + ".mlp_norm", x[t])));
    }
  }

  GptConfig c_;
  const Weights& w_;
  mutable std::map<std::string, Vector> largest_;
};

}  // namespace muonp::models::testing
