// Choosing the best of many matrices, and charging their scores, for CUDA as source text; see choose.cpp for what its parameters are.
//
// A row is what is chosen from: one matrix, or all of them one after the other. A number's key is an unsigned one of the same order, and the
// least key that stays in a row is found digit by digit, from the highest: the numbers of a row that begin with the digits known so far are
// counted by their next digit, and the digit is where the count from above reaches what is to stay (radix selection; Alabi et al. 2012,
// doi 10.1145/2133803.2345676). Counts are whole numbers, so the order in which they are added does not matter.
#pragma once

namespace qapipe {

constexpr char kChooseSource[] = R"cuda(
#include "number.h"

constexpr int kThreads = 256, kWarps = kThreads / 32, kChunk = 16384, kBins = 2048, kDigits = 3;

struct Matrix {
  const void* from;  // what its numbers are worth, or its scores
  void* to;          // its mask, or the gradient of its scores
  long long size, first, row, group, aligned;  // first: its first chunk; aligned: whether four numbers may be read and written at once
};
struct Row { long long first, end, size; };  // its chunks, and how many numbers they are
struct Places {
  const Matrix* matrices;
  const Row* rows;
  const long long* chunks;  // which matrix a chunk is of
  long long matrix_count, row_count;
};
// Of a row: how many stay; the digits of the least key that does, as far as they are known; how many of those that begin with them stay,
// and how many there are.
struct State { long long kept; unsigned key, left, equal, unused; };
struct Work {
  State* states;       // [rows]
  unsigned* counts;    // [rows, digits, bins], zero at first
  unsigned* equals;    // [chunks]
  double *sums, *means;  // [chunks], [matrices]
};

__device__ int shift_of(int digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }
__device__ int bits_of(int digit) { return digit == 2 ? 10 : 11; }

// A chunk of a matrix.
struct Chunk {
  Matrix matrix;
  long long start;
  int length;
};
__device__ Chunk chunk_of(const Places& places, int at) {
  Chunk chunk;
  chunk.matrix = places.matrices[places.chunks[at]];
  chunk.start = (at - chunk.matrix.first) * kChunk;
  const long long left = chunk.matrix.size - chunk.start;
  chunk.length = left < kChunk ? (int)left : kChunk;
  return chunk;
}

// The bits of up to four numbers as f32, without those that a mask leaves out (the sign, where distances from zero count).
template <typename T> struct Bits;
template <> struct Bits<float> {
  static __device__ unsigned one(const void* from, long long at) { return ((const unsigned*)from)[at]; }
  static __device__ void four(const void* from, long long at, unsigned* bits) {
    const uint4 all = *(const uint4*)((const unsigned*)from + at);
    bits[0] = all.x, bits[1] = all.y, bits[2] = all.z, bits[3] = all.w;
  }
};
template <> struct Bits<Half> {
  static __device__ unsigned one(const void* from, long long at) { return (unsigned)((const unsigned short*)from)[at] << 16; }
  static __device__ void four(const void* from, long long at, unsigned* bits) {
    const uint2 all = *(const uint2*)((const unsigned short*)from + at);
    bits[0] = all.x << 16, bits[1] = all.x & 0xffff0000u, bits[2] = all.y << 16, bits[3] = all.y & 0xffff0000u;
  }
};
template <typename T>
__device__ int read_four(const Chunk& chunk, int at, unsigned mask, unsigned* bits) {
  const int count = max(0, min(4, chunk.length - at));
  if (count == 4 && chunk.matrix.aligned) {
    Bits<T>::four(chunk.matrix.from, chunk.start + at, bits);
  } else {
    for (int one = 0; one < 4; ++one) bits[one] = one < count ? Bits<T>::one(chunk.matrix.from, chunk.start + at + one) : 0;
  }
#pragma unroll
  for (int one = 0; one < 4; ++one) bits[one] &= mask;
  return count;
}

// An unsigned number of the same order. Both zeros are one; what is no number comes above all, or below all where its sign is set.
__device__ unsigned key_of(unsigned bits) {
  if (bits == 0x80000000u) bits = 0;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The sum of what the threads before a thread give, and the sum of all.
__device__ unsigned before(unsigned given, unsigned* total) {
  __shared__ unsigned parts[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned sum = given;
  for (int step = 1; step < 32; step *= 2) {
    const unsigned below = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += below;
  }
  if (lane == 31) parts[warp] = sum;
  __syncthreads();
  unsigned all = 0, ahead = 0;
  for (int one = 0; one < kWarps; ++one) {
    if (one == warp) ahead = all;
    all += parts[one];
  }
  __syncthreads();
  *total = all;
  return ahead + sum - given;
}

__device__ double sum_of_warp(double value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// The sum of the sigmoids of a chunk's numbers, each multiplied with a factor before: always in the same order.
template <typename T>
__device__ void sum_chunk(const Places& places, const Work& work, unsigned mask, float factor) {
  __shared__ double parts[kWarps];
  const Chunk chunk = chunk_of(places, blockIdx.x);
  double sum = 0.0;
  for (int at = threadIdx.x * 4; at < chunk.length; at += kThreads * 4) {
    unsigned bits[4];
    const int count = read_four<T>(chunk, at, mask, bits);
#pragma unroll
    for (int one = 0; one < 4; ++one) {
      if (one < count) sum += open_of(__fmul_rn(__uint_as_float(bits[one]), factor));
    }
  }
  sum = sum_of_warp(sum);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double all = 0.0;
    for (int warp = 0; warp < kWarps; ++warp) all += parts[warp];
    work.sums[blockIdx.x] = all;
  }
}

// A matrix's share of what stays of its group, by the means of its group.
__device__ double share_of(const Places& places, const double* means, long long matrix, double keep) {
  double sum = 0.0, members = 0.0;
  for (long long other = 0; other < places.matrix_count; ++other) {
    if (places.matrices[other].group == places.matrices[matrix].group) sum += means[other], members += 1.0;
  }
  return means[matrix] / sum * keep * members;
}

// How many stay in each row. One block.
extern "C" __global__ void __launch_bounds__(256)
count_rows(Places places, Work work, double keep, int shared) {
  for (long long at = threadIdx.x / 32; shared && at < places.matrix_count; at += kWarps) {
    const Row row = places.rows[at];
    double sum = 0.0;
    for (long long chunk = row.first + threadIdx.x % 32; chunk < row.end; chunk += 32) sum += work.sums[chunk];
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0) work.means[at] = sum / (double)row.size;
  }
  __syncthreads();
  for (long long at = threadIdx.x; at < places.row_count; at += kThreads) {
    const long long size = places.rows[at].size;
    const double wanted = (shared ? share_of(places, work.means, at, keep) : keep) * (double)size;
    State state = {};
    // Nothing stays where the share is no number.
    state.kept = wanted >= (double)size ? size : wanted > 0.0 ? (long long)wanted : 0;
    state.left = (unsigned)state.kept;
    work.states[at] = state;
  }
}

__device__ bool is_decided(const State& state, long long size) { return state.kept <= 0 || state.kept >= size; }

// Counts a number for each thread of a warp that has one; where all have the same, at once.
__device__ void count(unsigned* bins, unsigned bin, bool has) {
  int same = 0;
  __match_all_sync(0xffffffffu, has ? bin : 0xffffffffu, &same);
  if (!same) {
    if (has) atomicAdd(&bins[bin], 1u);
  } else if (has && threadIdx.x % 32 == 0) {
    atomicAdd(&bins[bin], 32u);
  }
}

// Counts a chunk's numbers that begin with the digits known so far, by their next digit.
template <typename T>
__device__ void count_chunk(const Places& places, const Work& work, unsigned mask, int digit) {
  __shared__ unsigned bins[kBins];
  const Chunk chunk = chunk_of(places, blockIdx.x);
  const long long row = chunk.matrix.row;
  const State state = work.states[row];
  if (is_decided(state, places.rows[row].size)) return;
  for (int bin = threadIdx.x; bin < kBins; bin += kThreads) bins[bin] = 0;
  __syncthreads();
  const int shift = shift_of(digit), bits = bits_of(digit);
  for (int tile = 0; tile < chunk.length; tile += kThreads * 4) {
    unsigned numbers[4];
    const int valid = read_four<T>(chunk, tile + threadIdx.x * 4, mask, numbers);
#pragma unroll
    for (int one = 0; one < 4; ++one) {
      const unsigned key = key_of(numbers[one]);
      const bool begins = digit == 0 || key >> (shift + bits) == state.key;
      count(bins, key >> shift & ((1u << bits) - 1u), one < valid && begins);
    }
  }
  __syncthreads();
  unsigned* all = work.counts + (row * kDigits + digit) * kBins;
  for (int bin = threadIdx.x; bin < kBins; bin += kThreads) {
    if (bins[bin] != 0) atomicAdd(&all[bin], bins[bin]);
  }
}

// Finds a row's next digit. A block is a row.
extern "C" __global__ void __launch_bounds__(256)
find_digit(Places places, Work work, int digit) {
  constexpr int kEach = kBins / kThreads;
  const State state = work.states[blockIdx.x];
  if (is_decided(state, places.rows[blockIdx.x].size)) return;
  const unsigned* counts = work.counts + ((long long)blockIdx.x * kDigits + digit) * kBins;
  const int highest = kBins - 1 - threadIdx.x * kEach;
  unsigned own = 0, total;
  for (int one = 0; one < kEach; ++one) own += counts[highest - one];
  unsigned above = before(own, &total);
  if (above >= state.left || state.left > above + own) return;
  int bin = highest;
  for (; bin > highest - kEach + 1 && above + counts[bin] < state.left; --bin) above += counts[bin];
  State next = state;
  next.key = state.key << bits_of(digit) | (unsigned)bin;
  next.left = state.left - above;
  next.equal = counts[bin];
  work.states[blockIdx.x] = next;
}

// Whether some of a row's equal last numbers stay, and others do not.
__device__ bool is_tied(const State& state, long long size) { return !is_decided(state, size) && state.left < state.equal; }

// Counts a chunk's numbers with the last key that stays, where that decides.
template <typename T>
__device__ void count_equals(const Places& places, const Work& work, unsigned mask) {
  const Chunk chunk = chunk_of(places, blockIdx.x);
  const State state = work.states[chunk.matrix.row];
  if (!is_tied(state, places.rows[chunk.matrix.row].size)) return;
  unsigned own = 0, total;
  for (int at = threadIdx.x * 4; at < chunk.length; at += kThreads * 4) {
    unsigned bits[4];
    const int valid = read_four<T>(chunk, at, mask, bits);
    for (int one = 0; one < 4; ++one) own += one < valid && key_of(bits[one]) == state.key;
  }
  before(own, &total);
  if (threadIdx.x == 0) work.equals[blockIdx.x] = total;
}

// How many of a row's equal last numbers lie in the chunks before a chunk.
__device__ unsigned equals_before(const Work& work, long long first) {
  unsigned own = 0, total;
  for (long long at = first + threadIdx.x; at < blockIdx.x; at += kThreads) own += work.equals[at];
  before(own, &total);
  return total;
}

__device__ void write_four(const Chunk& chunk, int at, int count, const bool* stays) {
  unsigned char* to = (unsigned char*)chunk.matrix.to + chunk.start + at;
  if (count == 4 && chunk.matrix.aligned) {
    *(unsigned*)to = (unsigned)stays[0] | (unsigned)stays[1] << 8 | (unsigned)stays[2] << 16 | (unsigned)stays[3] << 24;
    return;
  }
#pragma unroll
  for (int one = 0; one < 4; ++one) {
    if (one < count) to[one] = stays[one];
  }
}

// Sets a chunk's mask.
template <typename T>
__device__ void set_chunk(const Places& places, const Work& work, unsigned mask) {
  const Chunk chunk = chunk_of(places, blockIdx.x);
  const Row row = places.rows[chunk.matrix.row];
  const State state = work.states[chunk.matrix.row];
  const bool decided = is_decided(state, row.size), tied = is_tied(state, row.size);
  unsigned seen = tied ? equals_before(work, row.first) : 0;
  for (int tile = 0; tile < chunk.length; tile += kThreads * 4) {
    const int at = tile + threadIdx.x * 4;
    unsigned bits[4] = {}, own = 0, total = 0;
    const int valid = decided ? max(0, min(4, chunk.length - at)) : read_four<T>(chunk, at, mask, bits);
    bool stays[4], equal[4];
#pragma unroll
    for (int one = 0; one < 4; ++one) {
      const unsigned key = key_of(bits[one]);
      equal[one] = tied && one < valid && key == state.key;
      stays[one] = decided ? state.kept > 0 : key > state.key || (key == state.key && !tied);
      own += equal[one];
    }
    if (tied) {
      unsigned rank = seen + before(own, &total);
#pragma unroll
    for (int one = 0; one < 4; ++one) {
        if (equal[one]) stays[one] = rank++ < state.left;
      }
      seen += total;
    }
    write_four(chunk, at, valid, stays);
  }
}

// Adds what scores cost to their gradient; a matrix's numbers share its price.
extern "C" __global__ void __launch_bounds__(256)
charge(Places places, double price) {
  const Chunk chunk = chunk_of(places, blockIdx.x);
  const float each = (float)(price / (double)chunk.matrix.size);
  for (int at = threadIdx.x * 4; at < chunk.length; at += kThreads * 4) {
    unsigned bits[4];
    const int count = read_four<float>(chunk, at, 0xffffffffu, bits);
    float* to = (float*)chunk.matrix.to + chunk.start + at;
    for (int one = 0; one < count; ++one) {
      const float score = __uint_as_float(bits[one]);
      to[one] = __fadd_rn(to[one], __fmul_rn(open_of(score) * open_of(-score), each));
    }
  }
}

#define EACH(kind, T)                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(256) sum_##kind(Places places, Work work, unsigned mask, float factor) {               \
    sum_chunk<T>(places, work, mask, factor);                                                                                         \
  }                                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) count_##kind(Places places, Work work, unsigned mask, int digit) {                \
    count_chunk<T>(places, work, mask, digit);                                                                                        \
  }                                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) equals_##kind(Places places, Work work, unsigned mask) {                          \
    count_equals<T>(places, work, mask);                                                                                              \
  }                                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) set_##kind(Places places, Work work, unsigned mask) {                             \
    set_chunk<T>(places, work, mask);                                                                                                 \
  }
EACH(float, float)
EACH(half, Half)
)cuda";

}  // namespace qapipe
