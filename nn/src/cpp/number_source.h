// What the sources of all kernels include as "number.h": reading and writing numbers of either kind, as f32.
#pragma once

namespace qapipe {

constexpr char kNumberSource[] = R"cuda(
template <typename T> struct Number;
template <> struct Number<float> {
  static __device__ float read(const void* from, long long at) { return ((const float*)from)[at]; }
  static __device__ void write(void* to, long long at, float value) { ((float*)to)[at] = value; }
};
struct Half;
template <> struct Number<Half> {
  static __device__ float read(const void* from, long long at) {
    return __uint_as_float((unsigned)((const unsigned short*)from)[at] << 16);
  }
  static __device__ unsigned short bits(float value) {
    unsigned bits = __float_as_uint(value);
    unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return value != value ? 0x7fc0 : (unsigned short)(rounded >> 16);
  }
  static __device__ void write(void* to, long long at, float value) { ((unsigned short*)to)[at] = bits(value); }
};

__device__ float open_of(float x) { return 1.0f / (1.0f + expf(-x)); }
)cuda";

}  // namespace qapipe
