// The recurrence of a bidirectional LSTM (Hochreiter and Schmidhuber 1997) over packed sequences, one signature for each device.
//
// Gates come in the order i, f, g, o; [..., 2, ...] is the way forward, then the way back. Tensors are contiguous and of one kind, but for
// what is kept, which is f32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace qapipe {

struct Lstm {
  at::Tensor inflow;  // what the input gives to the gates, biases included [tokens, 2 * 4 * hidden]
  at::Tensor weight;  // [2 * 4 * hidden, hidden]
  at::Tensor ends;    // int32 [sequences + 1]

  int64_t tokens() const { return inflow.size(0); }
  int64_t hidden() const { return weight.size(1); }
  int64_t sequences() const { return ends.size(0) - 1; }
};

// What the forward pass leaves for the backward pass; null where there is none.
struct LstmKept {
  float* gates = nullptr;  // after their activations [tokens, 2, 4 * hidden]
  float* cells = nullptr;  // [tokens, 2, hidden]
};

// For the backward pass: the result and its gradient [tokens, 2 * hidden] in; out what becomes of the inflow [tokens, 2, 4 * hidden], and the
// state before each token [tokens, 2, hidden].
struct LstmSlopes {
  at::Tensor out, given, inflow, before;
};

// For the CPU, in f32.
bool lstm_cpu_takes(const at::Tensor& inflow);
void lstm_cpu(const Lstm& lstm, const LstmKept& kept, at::Tensor& out);
void lstm_cpu_backward(const Lstm& lstm, const LstmKept& kept, LstmSlopes& slopes);

// For CUDA, in bf16 and of some widths.
bool lstm_cuda_takes(const at::Tensor& inflow, int64_t hidden);
void lstm_cuda(const Lstm& lstm, const LstmKept& kept, at::Tensor& out);
void lstm_cuda_backward(const Lstm& lstm, const LstmKept& kept, LstmSlopes& slopes);

}  // namespace qapipe
