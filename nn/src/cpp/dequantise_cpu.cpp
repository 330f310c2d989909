// Weights in few bits back to numbers, on the CPU. Products and sums are rounded one by one, so that each processor gives the same bits.
#include "dequantise.h"
#include "lanes.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>

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

// The compiler makes wide operations of a plain loop only when it is asked to.
#if defined(__GNUC__) && !defined(__clang__)
#define QAPIPE_WIDE __attribute__((optimize("O3")))
#else
#define QAPIPE_WIDE
#endif

QAPIPE_EACH_PROCESSOR QAPIPE_WIDE void fill_row(const int8_t* values, int64_t width, float scale, float step, float* out) {
  for (int64_t at = 0; at < width; ++at) {
    out[at] = static_cast<float>(values[at]) * scale * step;
  }
}

QAPIPE_EACH_PROCESSOR QAPIPE_WIDE void fill_row(const int8_t* values, int64_t width, float scale, float step, c10::BFloat16* out) {
  for (int64_t at = 0; at < width; ++at) {
    const float number = static_cast<float>(values[at]) * scale * step;
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof(bits));
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    out[at].x = number == number ? static_cast<uint16_t>(rounded) : uint16_t{0x7fc0};
  }
}

// Rounding to f16 is slow, and there are but 256 numbers in a row.
void fill_row(const int8_t* values, int64_t width, float scale, float step, c10::Half* out) {
  c10::Half numbers[256];
  for (int value = -128; value < 128; ++value) {
    numbers[value + 128] = static_cast<c10::Half>(static_cast<float>(value) * scale * step);
  }
  for (int64_t at = 0; at < width; ++at) {
    out[at] = numbers[values[at] + 128];
  }
}

template <typename T>
void fill(const Int8& weight, const at::Tensor& out) {
  const int64_t rows = out.size(0), width = out.size(1);
  const int8_t* values = weight.values.const_data_ptr<int8_t>();
  const float* scales = weight.scb.const_data_ptr<float>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, rows, std::max<int64_t>(kGrain / width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      fill_row(values + row * width, width, scales[row], weight.step, to + row * width);
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
