// One matrix product as cuBLAS was asked for it.
#pragma once

#include <cstdint>
#include <string>

#include "cublas_v2.h"

namespace cuda_host {

struct GemmMatrix {
  const void* data;
  cudaDataType type;
  int64_t rows, columns;  // as stored
  int64_t ld;
  int64_t stride;  // elements from one matrix of the batch to the next
};

enum class Gelu : unsigned char { none, value, slope };

struct Gemm {
  bool transpose_a = false, transpose_b = false;
  int64_t m = 0, n = 0, k = 0;
  float alpha = 1, beta = 0;
  GemmMatrix a = {}, b = {}, c = {};
  int64_t batch = 1;
  bool tf32 = false;
  const void* bias = nullptr;  // of c's type and m elements, added to each column of the result; or null
  // value: `before` becomes what the result is without it, and the result gelu of that; slope: the result is multiplied by
  // gelu'(before). Of c's type.
  Gelu gelu = Gelu::none;
  GemmMatrix before = {};
  bool narrow_sums = false;  // parts of a sum may be rounded to the result's 16 bits, as a product split along k does
};

int64_t element_bytes(cudaDataType type);
// Element `at` of the data, as the device reads and stores it.
float load_element(const void* data, cudaDataType type, int64_t at);
void store_element(void* data, cudaDataType type, int64_t at, float value);
// Whether an element of matrix p of x's batch and one of matrix q of y's share a byte, for some p and q (p !=
// q where x and y are the same matrix).
bool share_elements(const GemmMatrix& x, const GemmMatrix& y, int64_t batch);
// Reports matrices that the product may not use; false if there was one.
bool check_matrices(const char* function, const Gemm& gemm, int device);
void run_gemm(const Gemm& gemm);

}  // namespace cuda_host
