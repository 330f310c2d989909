// Weights in few bits, as the C++ half sees them, and filling a matrix with their numbers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace qapipe {

// A weight in NormalFloat. Where scales are nested, absmax holds codes (u8), and a scale is map[code] * nested_absmax + offset; else it holds the
// scales (f32), and there is neither nested_absmax nor map. Blocks are powers of two.
struct Nf4 {
  const at::Tensor &packed, &absmax;
  const at::Tensor *nested_absmax, *map;
  float offset;
  int64_t block, nested_block;
  const float* codes;  // sixteen

  bool nested() const { return nested_absmax != nullptr; }
};

// A weight in eight bits: a number is value * scb[row] * step.
struct Int8 {
  const at::Tensor &values, &scb;
  float step;
};

// Fill out [rows, width], contiguous, in f32, f16 or bf16, on the CPU.
void dequantise_cpu(const Nf4& weight, const at::Tensor& out);
void dequantise_cpu(const Int8& weight, const at::Tensor& out);

}  // namespace qapipe
