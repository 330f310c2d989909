// Weights in few bits back to numbers, on the CPU. Products and sums are rounded one by one, so that each processor gives the same bits.
#include "dequantise.h"
#include "lanes.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>

namespace qapipe {
namespace {

// Numbers that are worth a thread of their own.
constexpr int64_t kGrain = 1 << 16;

// The scale of a block.
float scale_of(const Nf4& weight, int64_t block) {
  if (!weight.nested()) {
    return weight.absmax.const_data_ptr<float>()[block];
  }
  const float value = weight.map->const_data_ptr<float>()[weight.absmax.const_data_ptr<uint8_t>()[block]];
  // Volatile, lest product and sum become one operation that rounds once.
  volatile float product = value * weight.nested_absmax->const_data_ptr<float>()[block / weight.nested_block];
  return product + weight.offset;
}

// The numbers of a block: what each code stands for is rounded once for all of them.
template <typename T>
void fill_block(const Nf4& weight, int64_t block, int64_t count, T* out) {
  const float scale = scale_of(weight, block);
  T numbers[16];
  for (int code = 0; code < 16; ++code) {
    numbers[code] = static_cast<T>(weight.codes[code] * scale);
  }
  const int64_t first = block * weight.block, last = std::min(first + weight.block, count);
  const uint8_t* packed = weight.packed.const_data_ptr<uint8_t>();
  int64_t at = first;
  for (; at + 1 < last; at += 2) {
    const uint8_t both = packed[at / 2];
    out[at] = numbers[both >> 4];
    out[at + 1] = numbers[both & 15];
  }
  if (at < last) {
    out[at] = numbers[packed[at / 2] >> 4];
  }
}

template <typename T>
void fill(const Nf4& weight, const at::Tensor& out) {
  const int64_t count = out.numel(), blocks = (count + weight.block - 1) / weight.block;
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, blocks, std::max<int64_t>(kGrain / weight.block, 1), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      fill_block(weight, block, count, to);
    }
  });
}

typedef int8_t LanesOfBytes __attribute__((vector_size(16)));
typedef uint16_t LanesOfHalves __attribute__((vector_size(32)));

QAPIPE_PART void store_as(float* to, const Lanes& lanes, int64_t count) { store(to, lanes, count); }

QAPIPE_PART void store_as(c10::BFloat16* to, const Lanes& lanes, int64_t count) {
  typedef uint32_t LanesOfBits __attribute__((vector_size(64)));
  const LanesOfBits bits = reinterpret_cast<LanesOfBits>(lanes);
  const LanesOfBits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const LanesOfBits kept = lanes == lanes ? rounded : LanesOfBits{} + 0x7fc0u;
  const LanesOfHalves halves = __builtin_convertvector(kept, LanesOfHalves);
  std::memcpy(to, &halves, static_cast<std::size_t>(count) * sizeof(uint16_t));
}

QAPIPE_PART void store_as(c10::Half* to, const Lanes& lanes, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) {
    to[lane] = static_cast<c10::Half>(lanes[lane]);
  }
}

// The numbers of a row.
template <typename T>
QAPIPE_PART void fill_row(const int8_t* values, int64_t width, float scale, float step, T* out) {
  for (int64_t at = 0; at < width; at += kLanes) {
    const int64_t count = std::min(kLanes, width - at);
    LanesOfBytes bytes{};
    if (count == kLanes) {
      std::memcpy(&bytes, values + at, sizeof(bytes));
    } else {
      std::memcpy(&bytes, values + at, static_cast<std::size_t>(count));
    }
    store_as(out + at, __builtin_convertvector(bytes, Lanes) * scale * step, count);
  }
}

QAPIPE_EACH_PROCESSOR void row_of(const int8_t* values, int64_t width, float scale, float step, float* out) {
  fill_row(values, width, scale, step, out);
}

QAPIPE_EACH_PROCESSOR void row_of(const int8_t* values, int64_t width, float scale, float step, c10::BFloat16* out) {
  fill_row(values, width, scale, step, out);
}

void row_of(const int8_t* values, int64_t width, float scale, float step, c10::Half* out) { fill_row(values, width, scale, step, out); }

template <typename T>
void fill(const Int8& weight, const at::Tensor& out) {
  const int64_t rows = out.size(0), width = out.size(1);
  const int8_t* values = weight.values.const_data_ptr<int8_t>();
  const float* scales = weight.scb.const_data_ptr<float>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, rows, std::max<int64_t>(kGrain / width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      row_of(values + row * width, width, scales[row], weight.step, to + row * width);
    }
  });
}

template <typename Weight>
void fill_any(const Weight& weight, const at::Tensor& out) {
  switch (out.scalar_type()) {
    case at::kFloat:
      return fill<float>(weight, out);
    case at::kHalf:
      return fill<c10::Half>(weight, out);
    default:
      return fill<c10::BFloat16>(weight, out);
  }
}

}  // namespace

void dequantise_cpu(const Nf4& weight, const at::Tensor& out) { fill_any(weight, out); }

void dequantise_cpu(const Int8& weight, const at::Tensor& out) { fill_any(weight, out); }

}  // namespace qapipe
