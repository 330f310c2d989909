// The selective scan for CUDA, as source text; see scan_cuda.cpp for what its parameters are.
//
// A block is one sequence and 16 neighbouring channels; a thread is one number of state of one channel, so that half a warp is a channel.
// Tokens go by in tiles of 16, brought into shared memory once: thread t * 16 + c takes token t and channel c there.
#pragma once

namespace qapipe {

constexpr char kScanSource[] = R"cuda(
#include "number.h"
#define TILE 16
#define FULL 0xffffffffu
#define LOG2E 1.4426950408889634f

__device__ float softplus_of(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// The sum over the 16 threads of a channel, for each of them.
__device__ float over_state(float value) {
  for (int step = 8; step > 0; step >>= 1) value += __shfl_xor_sync(FULL, value, step);
  return value;
}

struct Rows { const void* data; long long stride; };
struct Scan {
  Rows input, step, gate, entry, exit;
  const float *decay_log, *skip, *step_bias;
  const int* ends;
  int channels, width;
};

template <typename T>
__device__ void forward(const Scan& s, float* state, void* out) {
  __shared__ float input[TILE][16], step[TILE][16], entry[TILE][16], exits[TILE][16], read[TILE][16];
  const int tid = threadIdx.x, mine = tid / 16, n = tid % 16, first_channel = blockIdx.y * 16;
  const int channel = first_channel + mine, row = mine, column = n, column_channel = first_channel + column;
  const int begin = s.ends[blockIdx.x], end = s.ends[blockIdx.x + 1];
  const bool here = channel < s.channels && n < s.width, there = column_channel < s.channels;
  const float decay = here ? -expf(s.decay_log[channel * s.width + n]) * LOG2E : 0.0f;
  const float bias = there ? s.step_bias[column_channel] : 0.0f, skip = there ? s.skip[column_channel] : 0.0f;
  const long long own = ((long long)blockIdx.x * s.channels + channel) * s.width + n;
  float h = state != nullptr && here ? state[own] : 0.0f;
  for (int first = begin; first < end; first += TILE) {
    const int token = first + row, count = min(TILE, end - first);
    const bool inside = row < count;
    const float x = inside && there ? Number<T>::read(s.input.data, token * s.input.stride + column_channel) : 0.0f;
    const float raw = inside && there ? Number<T>::read(s.step.data, token * s.step.stride + column_channel) + bias : 0.0f;
    input[row][column] = x;
    step[row][column] = inside ? softplus_of(raw) : 0.0f;
    entry[row][column] = inside && column < s.width ? Number<T>::read(s.entry.data, token * s.entry.stride + column) : 0.0f;
    exits[row][column] = inside && column < s.width ? Number<T>::read(s.exit.data, token * s.exit.stride + column) : 0.0f;
    __syncthreads();
    for (int t = 0; t < count; ++t) {
      const float delta = step[t][mine];
      h = exp2f(delta * decay) * h + delta * input[t][mine] * entry[t][n];
      const float sum = over_state(h * exits[t][n]);
      if (n == 0) read[t][mine] = sum;
    }
    __syncthreads();
    if (inside && there) {
      const float gate = Number<T>::read(s.gate.data, token * s.gate.stride + column_channel);
      Number<T>::write(out, (long long)token * s.channels + column_channel, (read[row][column] + skip * x) * gate * open_of(gate));
    }
    __syncthreads();
  }
  if (state != nullptr && here) state[own] = h;
}

struct Gradients {
  Rows out;                  // of the result
  void *input, *step, *gate; // [tokens, channels]
  float *entry, *exit;       // [blocks of channels, tokens, width]
  float *decay;              // [sequences, channels, width]
  float *skip, *step_bias;   // [sequences, channels]
  float *kept;               // states before each tile, [tiles, channels, width]
  const int* tiles;          // the first tile of each sequence
  int tokens;
};

template <typename T>
__device__ void backward(const Scan& s, const Gradients& g) {
  __shared__ float input[TILE][16], step[TILE][16], slope[TILE][16], inner[TILE][16], entry[TILE][16], exits[TILE][16], read[TILE][16];
  __shared__ float to_inflow[TILE][16], to_step[TILE][16];
  __shared__ float part_entry[8][TILE][16], part_exit[8][TILE][16];
  const int tid = threadIdx.x, mine = tid / 16, n = tid % 16, warp = tid / 32, first_channel = blockIdx.y * 16;
  const int channel = first_channel + mine, row = mine, column = n, column_channel = first_channel + column;
  const int begin = s.ends[blockIdx.x], end = s.ends[blockIdx.x + 1], tiles = (end - begin + TILE - 1) / TILE;
  const bool here = channel < s.channels && n < s.width, there = column_channel < s.channels;
  const float rate = here ? -expf(s.decay_log[channel * s.width + n]) : 0.0f, decay = rate * LOG2E;
  const float bias = there ? s.step_bias[column_channel] : 0.0f, skip = there ? s.skip[column_channel] : 0.0f;
  const long long kept_stride = (long long)s.channels * s.width;
  float* kept = g.kept + (long long)g.tiles[blockIdx.x] * kept_stride + (long long)channel * s.width + n;

  // Forward once for the states before each tile.
  float h = 0.0f;
  for (int tile = 0; tile < tiles; ++tile) {
    const int first = begin + tile * TILE, token = first + row, count = min(TILE, end - first);
    const bool inside = row < count;
    input[row][column] = inside && there ? Number<T>::read(s.input.data, token * s.input.stride + column_channel) : 0.0f;
    step[row][column] = inside && there ? softplus_of(Number<T>::read(s.step.data, token * s.step.stride + column_channel) + bias) : 0.0f;
    entry[row][column] = inside && column < s.width ? Number<T>::read(s.entry.data, token * s.entry.stride + column) : 0.0f;
    __syncthreads();
    if (here) kept[tile * kept_stride] = h;
    for (int t = 0; t < count; ++t) {
      const float delta = step[t][mine];
      h = exp2f(delta * decay) * h + delta * input[t][mine] * entry[t][n];
    }
    __syncthreads();
  }

  // Then back, tile by tile.
  float flow = 0.0f, decay_sum = 0.0f, skip_sum = 0.0f, bias_sum = 0.0f;
  for (int tile = tiles - 1; tile >= 0; --tile) {
    const int first = begin + tile * TILE, token = first + row, count = min(TILE, end - first);
    const bool inside = row < count, whole = inside && there;
    const float x = whole ? Number<T>::read(s.input.data, token * s.input.stride + column_channel) : 0.0f;
    const float raw = whole ? Number<T>::read(s.step.data, token * s.step.stride + column_channel) + bias : 0.0f;
    const float gate = whole ? Number<T>::read(s.gate.data, token * s.gate.stride + column_channel) : 0.0f;
    const float given = whole ? Number<T>::read(g.out.data, token * g.out.stride + column_channel) : 0.0f;
    const float open = open_of(gate);
    input[row][column] = x;
    step[row][column] = whole ? softplus_of(raw) : 0.0f;
    slope[row][column] = whole ? open_of(raw) : 0.0f;
    inner[row][column] = given * gate * open;
    entry[row][column] = inside && column < s.width ? Number<T>::read(s.entry.data, token * s.entry.stride + column) : 0.0f;
    exits[row][column] = inside && column < s.width ? Number<T>::read(s.exit.data, token * s.exit.stride + column) : 0.0f;
    __syncthreads();
    float before[TILE];
    float now = here ? kept[tile * kept_stride] : 0.0f;
#pragma unroll
    for (int t = 0; t < TILE; ++t) {
      before[t] = now;
      const float delta = step[t][mine];
      now = exp2f(delta * decay) * now + delta * input[t][mine] * entry[t][n];
      const float sum = over_state(now * exits[t][n]);
      if (n == 0) read[t][mine] = sum;
    }
#pragma unroll
    for (int t = TILE - 1; t >= 0; --t) {
      const float delta = step[t][mine], inflow = delta * input[t][mine], down = inner[t][mine];
      const float share = exp2f(delta * decay), grown = flow + down * exits[t][n], passed = grown * share, bend = passed * before[t];
      // Over the two channels of a warp; the eight warps are added up in order below.
      float for_exit = down * (share * before[t] + inflow * entry[t][n]), for_entry = grown * inflow;
      for_exit += __shfl_xor_sync(FULL, for_exit, 16);
      for_entry += __shfl_xor_sync(FULL, for_entry, 16);
      if ((tid & 16) == 0) {
        part_exit[warp][t][n] = for_exit;
        part_entry[warp][t][n] = for_entry;
      }
      const float sum_inflow = over_state(grown * entry[t][n]), sum_step = over_state(bend * rate);
      if (n == 0) {
        to_inflow[t][mine] = sum_inflow;
        to_step[t][mine] = sum_step;
      }
      decay_sum += bend * delta;
      // Steps beyond the sequence's end have no input, no decay and no gradient: they change nothing.
      flow = passed;
    }
    __syncthreads();
    if (whole) {
      const float down = inner[row][column], delta = step[row][column];
      const float change = (to_inflow[row][column] * x + to_step[row][column]) * slope[row][column];
      const long long place = (long long)token * s.channels + column_channel;
      Number<T>::write(g.input, place, to_inflow[row][column] * delta + down * skip);
      Number<T>::write(g.step, place, change);
      Number<T>::write(g.gate, place, given * (read[row][column] + skip * x) * open * (1.0f + gate * (1.0f - open)));
      skip_sum += down * x;
      bias_sum += change;
    }
    if (inside && column < s.width) {
      float sum_entry = 0.0f, sum_exit = 0.0f;
      for (int other = 0; other < 8; ++other) {
        sum_entry += part_entry[other][row][column];
        sum_exit += part_exit[other][row][column];
      }
      const long long place = ((long long)blockIdx.y * g.tokens + token) * s.width + column;
      g.entry[place] = sum_entry;
      g.exit[place] = sum_exit;
    }
    __syncthreads();
  }
  // The decay is -exp of its logarithm: it is its own derivative.
  if (here) g.decay[((long long)blockIdx.x * s.channels + channel) * s.width + n] = decay_sum * rate;
  input[row][column] = skip_sum;
  step[row][column] = bias_sum;
  __syncthreads();
  if (row == 0 && there) {
    float skips = 0.0f, biases = 0.0f;
    for (int t = 0; t < TILE; ++t) {
      skips += input[t][column];
      biases += step[t][column];
    }
    g.skip[blockIdx.x * s.channels + column_channel] = skips;
    g.step_bias[blockIdx.x * s.channels + column_channel] = biases;
  }
}

extern "C" __global__ void __launch_bounds__(256) scan_float(Scan s, float* state, void* out) { forward<float>(s, state, out); }
extern "C" __global__ void __launch_bounds__(256) scan_half(Scan s, float* state, void* out) { forward<Half>(s, state, out); }
extern "C" __global__ void __launch_bounds__(256) scan_back_float(Scan s, Gradients g) { backward<float>(s, g); }
extern "C" __global__ void __launch_bounds__(256) scan_back_half(Scan s, Gradients g) { backward<Half>(s, g); }

// The short convolution: sum of taps, counted back from the token itself, of the tokens of its own sequence; then silu.
#define MOST_TAPS 8
struct Conv {
  Rows input;
  const void *weight, *bias;
  const long long* positions;
  int tokens, channels, taps;
};

template <typename T>
__device__ float sum_at(const Conv& c, int token, int channel) {
  const long long position = c.positions[token];
  float sum = Number<T>::read(c.bias, channel);
  for (int tap = 0; tap < c.taps && tap <= position; ++tap) {
    sum += Number<T>::read(c.weight, (long long)channel * c.taps + c.taps - 1 - tap) *
           Number<T>::read(c.input.data, (long long)(token - tap) * c.input.stride + channel);
  }
  return sum;
}

template <typename T>
__device__ float slope_at(const Conv& c, const Rows& given, int token, int channel) {
  const float sum = sum_at<T>(c, token, channel), open = open_of(sum);
  return Number<T>::read(given.data, token * given.stride + channel) * open * (1.0f + sum * (1.0f - open));
}

template <typename T>
__device__ void conv_forward(const Conv& c, void* out) {
  const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (long long)c.tokens * c.channels) return;
  const int token = at / c.channels, channel = at % c.channels;
  const float sum = sum_at<T>(c, token, channel);
  Number<T>::write(out, at, sum * open_of(sum));
}

template <typename T>
__device__ void conv_to_input(const Conv& c, const Rows& given, void* out) {
  const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (long long)c.tokens * c.channels) return;
  const int token = at / c.channels, channel = at % c.channels;
  float sum = 0.0f;
  for (int tap = 0; tap < c.taps && token + tap < c.tokens && c.positions[token + tap] >= tap; ++tap) {
    sum += Number<T>::read(c.weight, (long long)channel * c.taps + c.taps - 1 - tap) * slope_at<T>(c, given, token + tap, channel);
  }
  Number<T>::write(out, at, sum);
}

// A block is 32 channels and `span` tokens; its eight rows of threads take every eighth of them. parts: [blocks of tokens, channels, taps + 1],
// the bias last.
template <typename T>
__device__ void conv_to_weight(const Conv& c, const Rows& given, float* parts, int span) {
  __shared__ float sums[8][32][MOST_TAPS + 1];
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32, channel = blockIdx.y * 32 + lane;
  float own[MOST_TAPS + 1];
#pragma unroll
  for (int tap = 0; tap <= MOST_TAPS; ++tap) own[tap] = 0.0f;
  const int first = blockIdx.x * span, last = min(first + span, c.tokens);
  if (channel < c.channels) {
    for (int token = first + row; token < last; token += 8) {
      const float slope = slope_at<T>(c, given, token, channel);
      const long long position = c.positions[token];
#pragma unroll
      for (int tap = 0; tap < MOST_TAPS; ++tap) {
        if (tap < c.taps && tap <= position) own[tap] += slope * Number<T>::read(c.input.data, (long long)(token - tap) * c.input.stride + channel);
      }
      own[MOST_TAPS] += slope;
    }
  }
#pragma unroll
  for (int tap = 0; tap <= MOST_TAPS; ++tap) sums[row][lane][tap] = own[tap];
  __syncthreads();
  if (row > 0 || channel >= c.channels) return;
  float* place = parts + ((long long)blockIdx.x * c.channels + channel) * (c.taps + 1);
  for (int tap = 0; tap <= c.taps; ++tap) {
    const int from = tap == c.taps ? MOST_TAPS : tap;
    float sum = 0.0f;
    for (int other = 0; other < 8; ++other) sum += sums[other][lane][from];
    place[tap == c.taps ? tap : c.taps - 1 - tap] = sum;
  }
}

extern "C" __global__ void conv_float(Conv c, void* out) { conv_forward<float>(c, out); }
extern "C" __global__ void conv_half(Conv c, void* out) { conv_forward<Half>(c, out); }
extern "C" __global__ void conv_input_float(Conv c, Rows given, void* out) { conv_to_input<float>(c, given, out); }
extern "C" __global__ void conv_input_half(Conv c, Rows given, void* out) { conv_to_input<Half>(c, given, out); }
extern "C" __global__ void conv_weight_float(Conv c, Rows given, float* parts, int span) { conv_to_weight<float>(c, given, parts, span); }
extern "C" __global__ void conv_weight_half(Conv c, Rows given, float* parts, int span) { conv_to_weight<Half>(c, given, parts, span); }
)cuda";

}  // namespace qapipe
