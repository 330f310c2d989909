// Where many matrices lie, told to kernels that take them all at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace qapipe {

// Rows of one matrix that are read, and as many rows of another of the same width that are changed. The C++ and the Rust half share this layout.
struct Pair {
  const at::Tensor *from, *to;  // [rows, width], contiguous
  int64_t from_row, to_row, height;
  int64_t group;  // pairs of one number share what they get
};

// What the caller keeps from call to call: the table as it was, and the same on the device.
struct Kept {
  at::Tensor *host, *device;
};

// The table of pairs as kernels see it; see choose_source.h.
struct Places {
  const int64_t *matrices, *rows, *chunks;
  int64_t matrix_count, row_count;
};

// Its sizes besides.
struct Table {
  Places places;
  int64_t chunk_count;
};

// Whether pairs can be told to a kernel: all on one CUDA device, those to read of one kind, those to change of a kind.
bool fits(const Pair* pairs, int64_t count, at::ScalarType changed);

// Tells them, anew only where something lies elsewhere than before: never waits for the device then. together: all are one row, else each is.
Table told(const Pair* pairs, int64_t count, bool together, const Kept& kept);

}  // namespace qapipe
