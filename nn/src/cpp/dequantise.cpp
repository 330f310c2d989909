// Weights in few bits back to numbers, straight into the matrix that is to hold them: by kernels on CUDA, by loops on the CPU.
#include "dequantise.h"

#include "guard.h"
#include "kernels.h"

#include <cstring>

namespace qapipe {
namespace {

constexpr char kDequantiseSource[] = R"cuda(
#include "number.h"

struct Codes { float values[16]; };

// Writes eight numbers that begin at a place; at once where that place is a multiple of 16 bytes.
template <typename T> __device__ void write_eight(void* out, long long at, const float* numbers);
template <> __device__ void write_eight<float>(void* out, long long at, const float* numbers) {
  float4* to = (float4*)((float*)out + at);
  to[0] = make_float4(numbers[0], numbers[1], numbers[2], numbers[3]);
  to[1] = make_float4(numbers[4], numbers[5], numbers[6], numbers[7]);
}
template <> __device__ void write_eight<Half>(void* out, long long at, const float* numbers) {
  unsigned pairs[4];
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    pairs[pair] = Number<Half>::bits(numbers[2 * pair]) | (unsigned)Number<Half>::bits(numbers[2 * pair + 1]) << 16;
  }
  *(uint4*)((unsigned short*)out + at) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

template <typename T>
__device__ void write(void* out, long long at, long long count, int aligned, const float* numbers) {
  if (aligned && at + 8 <= count) {
    write_eight<T>(out, at, numbers);
    return;
  }
#pragma unroll
  for (int one = 0; one < 8; ++one) {
    if (at + one < count) Number<T>::write(out, at + one, numbers[one]);
  }
}

// The scale of a block. Product and sum are rounded one by one, as on the CPU.
__device__ float scale_of(const void* absmax, const float* nested_absmax, const float* map, float offset, int nested_shift, long long block) {
  if (nested_absmax == nullptr) return ((const float*)absmax)[block];
  const float value = map[((const unsigned char*)absmax)[block]];
  return __fadd_rn(__fmul_rn(value, nested_absmax[block >> nested_shift]), offset);
}

// A thread makes eight numbers, which are of one block.
template <typename T>
__device__ void nf4(const unsigned char* packed, const void* absmax, const float* nested_absmax, const float* map, float offset, int shift,
                    int nested_shift, const Codes& codes, void* out, long long count, int aligned) {
  __shared__ float table[16];
  if (threadIdx.x < 16) table[threadIdx.x] = codes.values[threadIdx.x];
  __syncthreads();
  const long long first = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (first >= count) return;
  const float scale = scale_of(absmax, nested_absmax, map, offset, nested_shift, first >> shift);
  unsigned bytes = 0;
  if (aligned && first + 8 <= count) {
    bytes = *(const unsigned*)(packed + first / 2);
  } else {
    for (int one = 0; one < 4 && first + 2 * one < count; ++one) bytes |= (unsigned)packed[first / 2 + one] << (8 * one);
  }
  float numbers[8];
#pragma unroll
  for (int one = 0; one < 4; ++one) {
    numbers[2 * one] = __fmul_rn(table[bytes >> (8 * one + 4) & 15], scale);
    numbers[2 * one + 1] = __fmul_rn(table[bytes >> (8 * one) & 15], scale);
  }
  write<T>(out, first, count, aligned, numbers);
}

// A thread makes eight numbers; they are of one row where `aligned` says that a row's width is a multiple of eight.
template <typename T>
__device__ void int8(const signed char* values, const float* scb, float step, int width, void* out, long long count, int aligned) {
  const long long first = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (first >= count) return;
  float numbers[8] = {};
  if (aligned) {
    const long long row = count <= 0x7fffffffLL ? (unsigned)first / (unsigned)width : first / width;
    const float scale = scb[row];
    const uint2 both = *(const uint2*)(values + first);
#pragma unroll
    for (int one = 0; one < 8; ++one) {
      const signed char value = (signed char)((one < 4 ? both.x : both.y) >> (8 * (one & 3)) & 255);
      numbers[one] = __fmul_rn(__fmul_rn((float)value, scale), step);
    }
  } else {
    for (int one = 0; one < 8 && first + one < count; ++one) {
      numbers[one] = __fmul_rn(__fmul_rn((float)values[first + one], scb[(first + one) / width]), step);
    }
  }
  write<T>(out, first, count, aligned, numbers);
}

#define NF4(name, T)                                                                                                                          \
  extern "C" __global__ void __launch_bounds__(256)                                                                                           \
  name(const unsigned char* packed, const void* absmax, const float* nested_absmax, const float* map, float offset, int shift, int nested_shift, \
       Codes codes, void* out, long long count, int aligned) {                                                                                \
    nf4<T>(packed, absmax, nested_absmax, map, offset, shift, nested_shift, codes, out, count, aligned);                                      \
  }
NF4(nf4_float, float)
NF4(nf4_half, Half)

#define INT8(name, T)                                                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                                                        \
  name(const signed char* values, const float* scb, float step, int width, void* out, long long count, int aligned) {      \
    int8<T>(values, scb, step, width, out, count, aligned);                                                                \
  }
INT8(int8_float, float)
INT8(int8_half, Half)
)cuda";

const KernelSource kSource{"dequantise.cu", kDequantiseSource};

constexpr int kThreads = 256;
constexpr int64_t kEach = 8;  // numbers that a thread makes

// Sixteen numbers, as the kernels take them.
struct Codes {
  float values[16];
};

int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

bool power_of_two(int64_t size) { return size > 0 && (size & (size - 1)) == 0; }

int32_t shift_of(int64_t power) {
  int32_t shift = 0;
  while (int64_t{1} << shift < power) {
    ++shift;
  }
  return shift;
}

bool multiple(const void* place, std::uintptr_t bytes) { return reinterpret_cast<std::uintptr_t>(place) % bytes == 0; }

// Whether a part of a weight lies as it should for a matrix.
bool lies(const at::Tensor& part, at::ScalarType kind, int64_t count, const at::Tensor& out) {
  return part.scalar_type() == kind && part.is_contiguous() && part.numel() == count && part.device() == out.device();
}

// Whether a matrix can be filled, wherever it is.
bool takes(const at::Tensor& out) {
  const auto kind = out.scalar_type();
  const bool known = kind == at::kFloat || kind == at::kBFloat16 || (kind == at::kHalf && out.is_cpu());
  return known && out.dim() == 2 && out.is_contiguous() && out.numel() > 0 && (out.is_cpu() || out.is_cuda());
}

bool fits(const Nf4& weight, const at::Tensor& out) {
  if (!takes(out) || !power_of_two(weight.block) || weight.block < kEach || !power_of_two(weight.nested_block)) {
    return false;
  }
  const int64_t blocks = parts(out.numel(), weight.block);
  const bool nested = !weight.nested() || (lies(*weight.nested_absmax, at::kFloat, parts(blocks, weight.nested_block), out) &&
                                           weight.map != nullptr && lies(*weight.map, at::kFloat, 256, out));
  return nested && lies(weight.packed, at::kByte, parts(out.numel(), 2), out) &&
         lies(weight.absmax, weight.nested() ? at::kByte : at::kFloat, blocks, out);
}

bool fits(const Int8& weight, const at::Tensor& out) {
  return takes(out) && weight.values.sizes() == out.sizes() && lies(weight.values, at::kChar, out.numel(), out) &&
         lies(weight.scb, at::kFloat, out.size(0), out) && out.size(1) <= INT32_MAX;
}

void launch_for(const at::Tensor& out, const char* function, void** arguments) {
  launch(out.device(), kSource, function, {parts(out.numel(), kThreads * kEach), 1, kThreads}, arguments);
}

void dequantise_cuda(const Nf4& weight, const at::Tensor& out) {
  const void* packed = weight.packed.const_data_ptr();
  const void* absmax = weight.absmax.const_data_ptr();
  const void* nested_absmax = weight.nested() ? weight.nested_absmax->const_data_ptr() : nullptr;
  const void* map = weight.nested() ? weight.map->const_data_ptr() : nullptr;
  float offset = weight.offset;
  int32_t shift = shift_of(weight.block), nested_shift = shift_of(weight.nested_block);
  Codes codes;
  std::memcpy(codes.values, weight.codes, sizeof(codes.values));
  void* to = out.mutable_data_ptr();
  long long count = out.numel();
  int32_t aligned = multiple(to, 16) && multiple(packed, 4);
  void* arguments[] = {&packed, &absmax, &nested_absmax, &map, &offset, &shift, &nested_shift, &codes, &to, &count, &aligned};
  launch_for(out, out.scalar_type() == at::kFloat ? "nf4_float" : "nf4_half", arguments);
}

void dequantise_cuda(const Int8& weight, const at::Tensor& out) {
  const void* values = weight.values.const_data_ptr();
  const void* scb = weight.scb.const_data_ptr();
  float step = weight.step;
  auto width = static_cast<int32_t>(out.size(1));
  void* to = out.mutable_data_ptr();
  long long count = out.numel();
  int32_t aligned = width % kEach == 0 && multiple(to, 16) && multiple(values, 8);
  void* arguments[] = {&values, &scb, &step, &width, &to, &count, &aligned};
  launch_for(out, out.scalar_type() == at::kFloat ? "int8_float" : "int8_half", arguments);
}

// Fills a matrix, where there is a way to.
template <typename Weight>
bool dequantised(const Weight& weight, const at::Tensor& out) {
  if (!fits(weight, out) || (out.is_cuda() && !kernels_ready(out.device(), kSource))) {
    return false;
  }
  if (out.is_cuda()) {
    dequantise_cuda(weight, out);
  } else {
    dequantise_cpu(weight, out);
  }
  // Whoever kept the matrix for a way back learns that it is another.
  if (!out.is_inference()) {
    out.unsafeGetTensorImpl()->bump_version();
  }
  return true;
}

}  // namespace
}  // namespace qapipe

// Fill out [rows, width] with the numbers of a weight; done is false, and nothing is changed, where there is neither kernel nor loop for these.
// nested_absmax and map are null where scales are not nested; codes are sixteen.
QAPIPE_API char* qapipe_dequantise_nf4(bool* done, const at::Tensor* out, const at::Tensor* packed, const at::Tensor* absmax,
                                       const at::Tensor* nested_absmax, const at::Tensor* map, float offset, int64_t block, int64_t nested_block,
                                       const float* codes) {
  return qapipe::guarded([&] {
    *done = qapipe::dequantised(qapipe::Nf4{*packed, *absmax, nested_absmax, map, offset, block, nested_block, codes}, *out);
  });
}

QAPIPE_API char* qapipe_dequantise_int8(bool* done, const at::Tensor* out, const at::Tensor* values, const at::Tensor* scb, float step) {
  return qapipe::guarded([&] { *done = qapipe::dequantised(qapipe::Int8{*values, *scb, step}, *out); });
}
