// The recurrence of an LSTM for CUDA, as source text; see lstm.h and lstm_cuda.cpp for what its parameters are.
//
// A block is one sequence in one direction; a thread is one row of the recurrent weights, which stay in its registers from the first token
// to the last. So a token costs no launch and no reading of weights, and a sequence ends where it ends.
#pragma once

namespace qapipe {

constexpr char kLstmSource[] = R"cuda(
#include "number.h"

struct Lstm {
  const unsigned short *inflow, *weight;  // [tokens, 2, 4 H], [2, 4 H, H]
  const int* ends;
};
// What the forward pass leaves for the backward pass; null in inference.
struct Kept {
  float *gates, *cells;  // [tokens, 2, 4 H] after their activations, [tokens, 2, H]
};
struct Slopes {
  const unsigned short *out, *given;      // the result and its gradient [tokens, 2, H]
  unsigned short *inflow, *before;        // [tokens, 2, 4 H]; the state before each token [tokens, 2, H]
};

__device__ float low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ float high(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

// The product of H numbers of half precision, two a register, with H in shared memory.
template <int H>
__device__ float product(const unsigned* pairs, const float* values) {
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int k = 0; k < H / 4; ++k) {
    const float4 four = ((const float4*)values)[k];
    sums[0] += low(pairs[2 * k]) * four.x;
    sums[1] += high(pairs[2 * k]) * four.y;
    sums[2] += low(pairs[2 * k + 1]) * four.z;
    sums[3] += high(pairs[2 * k + 1]) * four.w;
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <int H>
__device__ void forward(const Lstm& s, const Kept& kept, unsigned short* out) {
  __shared__ __align__(16) float state[H];
  __shared__ float opened[4 * H];
  const int row = threadIdx.x, direction = blockIdx.y, part = row / H;
  const int begin = s.ends[blockIdx.x], end = s.ends[blockIdx.x + 1], step = direction == 0 ? 1 : -1;
  unsigned weight[H / 2];
  const unsigned* own = (const unsigned*)(s.weight + (direction * 4 * H + row) * H);
#pragma unroll
  for (int k = 0; k < H / 2; ++k) weight[k] = own[k];
  if (row < H) state[row] = 0.0f;
  float cell = 0.0f;
  long long token = direction == 0 ? begin : end - 1;
  float next = begin < end ? Number<Half>::read(s.inflow, (token * 2 + direction) * 4 * H + row) : 0.0f;
  __syncthreads();
  for (int left = end - begin; left > 0; --left, token += step) {
    const long long place = token * 2 + direction;
    const float inflow = next;
    if (left > 1) next = Number<Half>::read(s.inflow, (place + 2 * step) * 4 * H + row);
    const float sum = inflow + product<H>(weight, state);
    const float value = part == 2 ? tanhf(sum) : open_of(sum);
    opened[row] = value;
    if (kept.gates != nullptr) kept.gates[place * 4 * H + row] = value;
    __syncthreads();
    if (row < H) {
      cell = opened[H + row] * cell + opened[row] * opened[2 * H + row];
      const float result = opened[3 * H + row] * tanhf(cell);
      state[row] = result;
      Number<Half>::write(out, place * H + row, result);
      if (kept.cells != nullptr) kept.cells[place * H + row] = cell;
    }
    __syncthreads();
  }
}

// A thread is a quarter of a column of the recurrent weights here: those of one gate.
template <int H>
__device__ void backward(const Lstm& s, const Kept& kept, const Slopes& g) {
  __shared__ __align__(16) float change[4 * H];
  __shared__ float sums[4][H];
  const int tid = threadIdx.x, direction = blockIdx.y, part = tid / H, column = tid % H;
  const int begin = s.ends[blockIdx.x], end = s.ends[blockIdx.x + 1], step = direction == 0 ? -1 : 1;
  unsigned weight[H / 2];
  const unsigned short* own = s.weight + (direction * 4 * H + part * H) * H + column;
#pragma unroll
  for (int k = 0; k < H / 2; ++k) weight[k] = (unsigned)own[2 * k * H] | ((unsigned)own[(2 * k + 1) * H] << 16);
  float carried = 0.0f, flow = 0.0f;
  long long token = direction == 0 ? end - 1 : begin;
  float gates[4] = {0.0f, 0.0f, 0.0f, 0.0f}, cell = 0.0f, given = 0.0f;
  auto read = [&](long long place) {
    for (int k = 0; k < 4; ++k) gates[k] = kept.gates[(place * 4 + k) * H + column];
    given = Number<Half>::read(g.given, place * H + column);
  };
  if (part == 0 && begin < end) {
    read(token * 2 + direction);
    cell = kept.cells[(token * 2 + direction) * H + column];
  }
  for (int left = end - begin; left > 0; --left, token += step) {
    const long long place = token * 2 + direction, previous = place + 2 * step;
    if (part == 0) {
      const float before = left > 1 ? kept.cells[previous * H + column] : 0.0f;
      const float enter = gates[0], keep = gates[1], content = gates[2], open = gates[3], seen = tanhf(cell);
      const float down = given + carried, sum = flow + down * open * (1.0f - seen * seen);
      change[column] = sum * content * enter * (1.0f - enter);
      change[H + column] = sum * before * keep * (1.0f - keep);
      change[2 * H + column] = sum * enter * (1.0f - content * content);
      change[3 * H + column] = down * seen * open * (1.0f - open);
      flow = sum * keep;
      cell = before;
      g.before[place * H + column] = left > 1 ? g.out[previous * H + column] : (unsigned short)0;
      if (left > 1) read(previous);
    }
    __syncthreads();
    Number<Half>::write(g.inflow, place * 4 * H + tid, change[tid]);
    sums[part][column] = product<H>(weight, change + part * H);
    __syncthreads();
    if (part == 0) carried = (sums[0][column] + sums[1][column]) + (sums[2][column] + sums[3][column]);
  }
}

#define WIDTH(H)                                                                                                              \
  extern "C" __global__ void __launch_bounds__(4 * H) lstm_##H(Lstm s, Kept k, unsigned short* out) { forward<H>(s, k, out); } \
  extern "C" __global__ void __launch_bounds__(4 * H) lstm_back_##H(Lstm s, Kept k, Slopes g) { backward<H>(s, k, g); }
WIDTH(32)
WIDTH(64)
WIDTH(96)
WIDTH(128)
)cuda";

}  // namespace qapipe
