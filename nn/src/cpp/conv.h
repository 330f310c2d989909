// silu of a short causal convolution in each channel, within each sequence; one signature for every way to compute it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace qapipe {

// What goes in: of one kind.
struct Conv {
  at::Tensor input;      // [tokens, channels], rows may lie apart
  at::Tensor weight;     // [channels, 1, taps]; the last tap is for the token itself
  at::Tensor bias;       // [channels]
  at::Tensor positions;  // int64 [tokens]: of a token in its sequence

  int64_t tokens() const { return input.size(0); }
  int64_t channels() const { return input.size(1); }
  int64_t taps() const { return weight.size(2); }
};

// By plain tensor operations, with what autograd makes of them.
at::Tensor conv_plain(const Conv& conv);

// By a loop, for the CPU. The gradients are of input, weight and bias.
bool conv_cpu_takes(const Conv& conv);
at::Tensor conv_cpu(const Conv& conv);
std::vector<at::Tensor> conv_cpu_backward(const Conv& conv, const at::Tensor& gradient);

// By kernels of our own, for CUDA; the same gradients.
bool conv_cuda_takes(const Conv& conv);
at::Tensor conv_cuda(const Conv& conv);
std::vector<at::Tensor> conv_cuda_backward(const Conv& conv, const at::Tensor& gradient);

}  // namespace qapipe
