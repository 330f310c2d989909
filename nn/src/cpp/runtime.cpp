// The device and the process: memory, waiting, seeds, determinism, pinned memory.
#include "guard.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Generator.h>
#include <c10/core/DeviceGuard.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <mutex>

QAPIPE_API void qapipe_free(char* text) { std::free(text); }

// A copy of a text, to be freed as messages are.
QAPIPE_API char* qapipe_message(const char* text) { return strdup(text); }

// Another handle of a tensor, to be deleted.
QAPIPE_API at::Tensor* qapipe_copied(const at::Tensor* tensor) { return new at::Tensor(*tensor); }

// The pages of freed tensors stay with the process: every step needs them again, and the kernel clears each page that it hands out.
QAPIPE_API void qapipe_keep_pages() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // glibc takes no more
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

// Seeds the generator of one device: the CPU for a negative index, else the CUDA device.
QAPIPE_API char* qapipe_seed(int32_t device, uint64_t seed) {
  return qapipe::guarded([&] {
    auto place = device < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    auto generator = at::globalContext().defaultGenerator(place);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}

QAPIPE_API char* qapipe_synchronize(int32_t device) {
  return qapipe::guarded([&] {
    // libtorch goes back to the device that was current before, and so begins to use one that this process has nothing to do with: half a gigabyte
    // of its memory. The guard goes back without that.
    const c10::DeviceGuard guard(c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
    at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device));
  });
}

QAPIPE_API char* qapipe_deterministic(bool on) {
  // Not merely to warn: attention's backward pass takes its deterministic way only then.
  return qapipe::guarded([&] { at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false); });
}

// Bytes handed out by the caching allocator now, at the peak, and held from the device at the peak. Does nothing on the device itself: a process
// that has not used it takes no memory of it.
QAPIPE_API char* qapipe_memory(int32_t device, int64_t* allocated, int64_t* peak, int64_t* reserved) {
  return qapipe::guarded([&] {
    auto index = static_cast<c10::DeviceIndex>(device);
    at::globalContext().lazyInitDevice(at::kCUDA);
    auto stats = at::accelerator::getDeviceStats(index);
    auto aggregate = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[aggregate].current;
    *peak = stats.allocated_bytes[aggregate].peak;
    *reserved = stats.reserved_bytes[aggregate].peak;
  });
}

// Bytes of memory that a device has.
QAPIPE_API char* qapipe_total_memory(int32_t device, int64_t* total) {
  return qapipe::guarded([&] {
    at::globalContext().lazyInitDevice(at::kCUDA);
    *total = static_cast<int64_t>(at::accelerator::getMemoryInfo(static_cast<c10::DeviceIndex>(device)).second);
  });
}

QAPIPE_API char* qapipe_reset_peak(int32_t device) {
  return qapipe::guarded([&] {
    at::globalContext().lazyInitDevice(at::kCUDA);
    at::accelerator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
  });
}

// Gives free memory back to the devices and to the system. What keeps it from doing so is none of the stage's that is done.
QAPIPE_API void qapipe_give_back() {
  std::free(qapipe::guarded([&] {
    if (at::hasCUDA() && at::getDeviceAllocator(at::kCUDA)->initialized()) {
      at::accelerator::emptyCache();
    }
  }));
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// A copy in page-locked memory, from which a transfer to the device overlaps with work.
QAPIPE_API char* qapipe_pin(at::Tensor** out, const at::Tensor* tensor) {
  return qapipe::guarded([&] { *out = new at::Tensor(tensor->pin_memory()); });
}
