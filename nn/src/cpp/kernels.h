// Kernels of our own for CUDA: compiled when they are first used, by the NVRTC that comes with libtorch, and launched on its stream. Neither
// NVRTC nor the driver is linked; where one is missing there are no kernels, and plain tensor operations serve.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace qapipe {

// The functions of one source text, which may include "number.h".
struct KernelSource {
  const char* name;  // for messages
  const char* text;
};

// A size in blocks and in threads.
struct KernelShape {
  int64_t blocks_x, blocks_y;
  int threads;
};

// Whether there are kernels on a CUDA device. A reason why not is told once, on standard error.
bool kernels_ready(const at::Device& device, const KernelSource& source);

// Launches a function of a source on the current stream of a device. arguments: addresses of its parameters. Throws what goes wrong.
void launch(const at::Device& device, const KernelSource& source, const char* function, const KernelShape& shape, void** arguments);

}  // namespace qapipe
