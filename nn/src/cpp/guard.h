// What every function of the C++ half shares: no exception leaves it, an error is a text that the caller frees.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#define QAPIPE_API extern "C" __attribute__((visibility("default")))

namespace qapipe {

// Runs a piece of work; null when it went well, else the message, allocated with malloc.
template <typename Work>
char* guarded(Work&& work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of an unknown type");
  }
}

inline std::vector<at::Tensor> listed(at::Tensor* const* tensors, std::size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    list.push_back(*tensors[i]);
  }
  return list;
}

}  // namespace qapipe
