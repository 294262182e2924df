#include "cuda_host_attention.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

#include "gemm.h"
#include "runtime.h"
#include "sanitizer.h"

namespace cuda_host {

namespace {

using Matrix = std::vector<double>;  // [time, size] or [time, time]

struct Named {
  const char* name;
  const void* data;
  size_t bytes;
};

size_t bytes_of(const AttentionCall& a, const Heads& x) {
  return static_cast<size_t>(2 * ((a.batch * a.time - 1) * x.row + a.heads * a.size));
}
Named named(const char* name, const AttentionCall& a, const Heads& x) { return {name, x.data, bytes_of(a, x)}; }
Named logsumexp_of(const AttentionCall& a) {
  return {"logsumexp", a.logsumexp, static_cast<size_t>(4 * a.batch * a.heads * a.time)};
}

bool is_usable(const char* function, const Named& x) {
  const Location at = locate(function, x.name, x.data, x.bytes);
  if (at.place == Place::kInvalid) return false;
  if (at.place == Place::kDevice && at.device == current_device_index()) return true;
  report(std::string(function) + ": " + x.name + ": " + hex(x.data) + " is not memory of the current device");
  return false;
}

bool overlap(const Named& x, const Named& y) {
  const auto a = reinterpret_cast<uintptr_t>(x.data), b = reinterpret_cast<uintptr_t>(y.data);
  return a < b + y.bytes && b < a + x.bytes;
}

bool are_usable(const char* function, std::initializer_list<Named> read, std::initializer_list<Named> written) {
  for (const auto& list : {read, written})
    for (const Named& x : list)
      if (!is_usable(function, x)) return false;
  for (const Named& w : written)
    for (const Named& r : read)
      if (overlap(w, r)) {
        report(std::string(function) + ": " + w.name + " overlaps " + r.name);
        return false;
      }
  return true;
}

char* row_of(const AttentionCall& a, const Heads& x, int64_t b, int64_t h, int64_t t) {
  return static_cast<char*>(x.data) + 2 * ((b * a.time + t) * x.row + h * a.size);
}

double rounded(double value) {
  uint16_t bits = 0;
  store_element(&bits, CUDA_R_16BF, 0, static_cast<float>(value));
  return load_element(&bits, CUDA_R_16BF, 0);
}

Matrix read(const AttentionCall& a, const Heads& x, int64_t b, int64_t h) {
  Matrix values;
  values.reserve(static_cast<size_t>(a.time * a.size));
  for (int64_t t = 0; t < a.time; ++t) {
    const char* row = row_of(a, x, b, h, t);
    announce_read(row, static_cast<size_t>(2 * a.size));
    for (int64_t c = 0; c < a.size; ++c) values.push_back(load_element(row, CUDA_R_16BF, c));
  }
  return values;
}

void write(const AttentionCall& a, const Heads& x, int64_t b, int64_t h, const Matrix& values) {
  for (int64_t t = 0; t < a.time; ++t) {
    char* row = row_of(a, x, b, h, t);
    announce_write(row, static_cast<size_t>(2 * a.size));
    for (int64_t c = 0; c < a.size; ++c)
      store_element(row, CUDA_R_16BF, c, static_cast<float>(values[static_cast<size_t>(t * a.size + c)]));
  }
}

std::span<float> rows_of(const AttentionCall& a, int64_t b, int64_t h) {
  return {a.logsumexp + (b * a.heads + h) * a.time, static_cast<size_t>(a.time)};
}

double dot(const AttentionCall& a, const Matrix& x, int64_t i, const Matrix& y, int64_t j) {
  const double *p = &x[static_cast<size_t>(i * a.size)], *q = &y[static_cast<size_t>(j * a.size)];
  double sum = 0;
  for (int64_t c = 0; c < a.size; ++c) sum += p[c] * q[c];
  return sum;
}

// to[i] += factor·x[j], rows.
void add_row(const AttentionCall& a, Matrix& to, int64_t i, double factor, const Matrix& x, int64_t j) {
  double* p = &to[static_cast<size_t>(i * a.size)];
  const double* q = &x[static_cast<size_t>(j * a.size)];
  for (int64_t c = 0; c < a.size; ++c) p[c] += factor * q[c];
}

double scale_of(const AttentionCall& a) { return 1 / std::sqrt(static_cast<double>(a.size)); }
Matrix zeros(const AttentionCall& a) { return Matrix(static_cast<size_t>(a.time * a.size)); }

void run_forward(const AttentionCall& a, int64_t b, int64_t h) {
  const Matrix q = read(a, a.q, b, h), k = read(a, a.k, b, h), v = read(a, a.v, b, h);
  const std::span<float> logsumexp = rows_of(a, b, h);
  announce_write(logsumexp.data(), logsumexp.size_bytes());
  Matrix out = zeros(a);
  std::vector<double> scores(static_cast<size_t>(a.time));
  for (int64_t i = 0; i < a.time; ++i) {
    double highest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j <= i; ++j)
      highest = std::max(highest, scores[static_cast<size_t>(j)] = scale_of(a) * dot(a, q, i, k, j));
    for (int64_t j = 0; j <= i; ++j) sum += std::exp(scores[static_cast<size_t>(j)] - highest);
    const double normaliser = highest + std::log(sum);
    logsumexp[static_cast<size_t>(i)] = static_cast<float>(normaliser);
    for (int64_t j = 0; j <= i; ++j)
      add_row(a, out, i, rounded(std::exp(scores[static_cast<size_t>(j)] - normaliser)), v, j);
  }
  write(a, a.out, b, h, out);
}

// With P the weights, O the result and D = dO·O: dV = Pᵀ·dO, dS = P∘(dO·Vᵀ − D)·scale, dQ = dS·K, dK = dSᵀ·Q.
void run_backward(const AttentionCall& a, const Heads& dout, const Heads& dq, const Heads& dk, const Heads& dv, int64_t b,
                  int64_t h) {
  const Matrix q = read(a, a.q, b, h), k = read(a, a.k, b, h), v = read(a, a.v, b, h), out = read(a, a.out, b, h),
               slope = read(a, dout, b, h);
  const std::span<float> logsumexp = rows_of(a, b, h);
  announce_read(logsumexp.data(), logsumexp.size_bytes());
  Matrix to_q = zeros(a), to_k = zeros(a), to_v = zeros(a);
  for (int64_t i = 0; i < a.time; ++i) {
    const double delta = dot(a, slope, i, out, i);
    for (int64_t j = 0; j <= i; ++j) {
      const double weight = std::exp(scale_of(a) * dot(a, q, i, k, j) - logsumexp[static_cast<size_t>(i)]);
      const double score = rounded(weight * (dot(a, slope, i, v, j) - delta) * scale_of(a));
      add_row(a, to_v, j, rounded(weight), slope, i);
      add_row(a, to_q, i, score, k, j);
      add_row(a, to_k, j, score, q, i);
    }
  }
  write(a, dq, b, h, to_q);
  write(a, dk, b, h, to_k);
  write(a, dv, b, h, to_v);
}

// As one operation of the stream.
template <class OfHead>
void submit_heads(const char* function, cudaStream_t handle, const AttentionCall& a, const OfHead& of_head) {
  CUstream_st* stream = find_stream(function, handle);
  if (stream == nullptr) return;
  submit(*stream, device_bit(current_device_index()), make_task([a, of_head] {
    for (int64_t b = 0; b < a.batch; ++b)
      for (int64_t h = 0; h < a.heads; ++h) of_head(b, h);
  }));
}

}  // namespace

void attention_forward(cudaStream_t stream, const AttentionCall& a) {
  if (are_usable("attention_forward", {named("q", a, a.q), named("k", a, a.k), named("v", a, a.v)},
                 {named("out", a, a.out), logsumexp_of(a)}))
    submit_heads("attention_forward", stream, a, [a](int64_t b, int64_t h) { run_forward(a, b, h); });
}

void attention_backward(cudaStream_t stream, const AttentionCall& a, const Heads& dout, const Heads& dq, const Heads& dk,
                        const Heads& dv) {
  if (are_usable("attention_backward",
                 {named("q", a, a.q), named("k", a, a.k), named("v", a, a.v), named("out", a, a.out), logsumexp_of(a),
                  named("dout", a, dout)},
                 {named("dq", a, dq), named("dk", a, dk), named("dv", a, dv)}))
    submit_heads("attention_backward", stream, a, [=](int64_t b, int64_t h) { run_backward(a, dout, dq, dk, dv, b, h); });
}

}  // namespace cuda_host
