// The selective scan (Gu and Dao 2023, arXiv 2312.00752), one signature for every way to compute it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace qapipe {

// What goes in. [tokens, ...] tensors share a kind, and their last dimension is contiguous; the others are f32 and contiguous.
struct Scan {
  at::Tensor input;      // x [tokens, channels]
  at::Tensor step;       // before bias and softplus [tokens, channels]
  at::Tensor gate;       // z [tokens, channels]
  at::Tensor entry;      // B [tokens, state]
  at::Tensor exit;       // C [tokens, state]
  at::Tensor decay_log;  // A = -exp of it [channels, state]
  at::Tensor skip;       // D [channels]
  at::Tensor step_bias;  // [channels]
  at::Tensor ends;       // int32 [sequences + 1]

  int64_t tokens() const { return input.size(0); }
  int64_t channels() const { return input.size(1); }
  int64_t state() const { return entry.size(1); }
  int64_t sequences() const { return ends.size(0) - 1; }
};

// How many of a scan's tensors have a gradient: all but the ends, in their order.
constexpr std::size_t kScanGradients = 8;

// By plain tensor operations, with what autograd makes of them. state: null, or f32 [sequences, channels, state], read and overwritten.
// chunk: tokens of a chunk, or 0.
at::Tensor scan_plain(const Scan& scan, at::Tensor* state, int64_t chunk);

// By a loop over the tokens, for the CPU.
bool scan_cpu_takes(const Scan& scan);
at::Tensor scan_cpu(const Scan& scan, at::Tensor* state);
std::vector<at::Tensor> scan_cpu_backward(const Scan& scan, const at::Tensor& gradient);

// By kernels of our own, for CUDA.
bool scan_cuda_takes(const Scan& scan);
at::Tensor scan_cuda(const Scan& scan, at::Tensor* state);
std::vector<at::Tensor> scan_cuda_backward(const Scan& scan, const at::Tensor& gradient);

}  // namespace qapipe
