// Sixteen numbers side by side on the CPU, and what the scan and the convolution need of them.
#pragma once

#include <cstdint>
#include <cstring>

// One version of a function for each sort of processor; the right one is chosen when the program starts.
#if defined(__x86_64__) && defined(__ELF__) && defined(__GNUC__) && !defined(__clang__)
#define QAPIPE_EACH_PROCESSOR __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define QAPIPE_EACH_PROCESSOR
#endif
// A function that is part of its caller, and so made for the same processor.
#define QAPIPE_PART static inline __attribute__((always_inline))

namespace qapipe {

constexpr int64_t kLanes = 16;

typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t LanesOfInts __attribute__((vector_size(64)));

QAPIPE_PART Lanes lanes_of(float value) { return Lanes{} + value; }

// The first `count` numbers from a place on; zero for the others.
QAPIPE_PART Lanes load(const float* from, int64_t count) {
  Lanes lanes{};
  if (count == kLanes) {
    std::memcpy(&lanes, from, sizeof(lanes));
  } else {
    std::memcpy(&lanes, from, static_cast<std::size_t>(count) * sizeof(float));
  }
  return lanes;
}

QAPIPE_PART void store(float* to, const Lanes& lanes, int64_t count) {
  if (count == kLanes) {
    std::memcpy(to, &lanes, sizeof(lanes));
  } else {
    std::memcpy(to, &lanes, static_cast<std::size_t>(count) * sizeof(float));
  }
}

QAPIPE_PART float sum_of(const Lanes& lanes) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half halves[2];
  std::memcpy(halves, &lanes, sizeof(halves));
  const Half half = halves[0] + halves[1];
  Quarter quarters[2];
  std::memcpy(quarters, &half, sizeof(quarters));
  const Quarter quarter = quarters[0] + quarters[1];
  return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

// Where a condition (all bits set, or none) holds the one, elsewhere the other.
QAPIPE_PART Lanes choose(const LanesOfInts& condition, const Lanes& one, const Lanes& other) {
  return reinterpret_cast<Lanes>((condition & reinterpret_cast<LanesOfInts>(one)) | (~condition & reinterpret_cast<LanesOfInts>(other)));
}

// e^x, to about one unit in the last place; what would be below 2^-126 is 2^-126, and above 2^127 it is that.
QAPIPE_PART Lanes exponential(const Lanes& given) {
  const Lanes least = lanes_of(-87.33f), most = lanes_of(88.02f);
  Lanes x = choose(given < least, least, given);
  x = choose(x > most, most, x);
  // x = k ln 2 + r with a whole k and |r| at most half of ln 2; ln 2 in two parts, so that the difference is exact.
  const Lanes rounding = lanes_of(12582912.0f);  // 1.5 * 2^23: adding it leaves no room for fractions
  const Lanes k = (x * 1.44269504f + rounding) - rounding;
  const Lanes r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
  Lanes sum = r * (1.0f / 5040) + 1.0f / 720;
  sum = ((sum * r + 1.0f / 120) * r + 1.0f / 24) * r + 1.0f / 6;
  sum = ((sum * r + 0.5f) * r + 1.0f) * r + 1.0f;
  const LanesOfInts power = (__builtin_convertvector(k, LanesOfInts) + 127) << 23;
  return sum * reinterpret_cast<Lanes>(power);
}

QAPIPE_PART Lanes sigmoid(const Lanes& x) { return 1.0f / (1.0f + exponential(-x)); }

// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), the logarithm by its series in s = u / (2 + u), where s is at most a third.
QAPIPE_PART Lanes softplus(const Lanes& x) {
  const Lanes u = exponential(choose(x > 0.0f, -x, x));
  const Lanes s = u / (2.0f + u), square = s * s;
  Lanes sum = (square * (1.0f / 15) + 1.0f / 13) * square + 1.0f / 11;
  sum = ((sum * square + 1.0f / 9) * square + 1.0f / 7) * square + 1.0f / 5;
  sum = (sum * square + 1.0f / 3) * square + 1.0f;
  return choose(x > 0.0f, x, Lanes{}) + 2.0f * s * sum;
}

}  // namespace qapipe
