// NVRTC and the driver by dlopen, and a cache of compiled sources for each device.
#include "kernels.h"

#include "number_source.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <dlfcn.h>
#include <glob.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

namespace qapipe {
namespace {

constexpr const char* kNvrtc[] = {"libnvrtc.so.13", "libnvrtc.so.12"};

// Folders in which NVRTC may lie: beside the parts of CUDA that are loaded, and where pip puts it.
std::vector<std::string> folders() {
  std::vector<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto start = line.find('/'), end = line.rfind('/');
    const bool cuda = line.find("libcudart.so") != std::string::npos || line.find("libcublas.so") != std::string::npos;
    const bool torch = line.find("libtorch_cpu.so") != std::string::npos;
    if (start == std::string::npos || !(cuda || torch)) {
      continue;
    }
    const auto folder = line.substr(start, end - start);
    found.push_back(folder);
    for (const char* pattern : {"/../../*/lib", "/../../nvidia/*/lib"}) {
      glob_t matches{};
      if (glob((folder + pattern).c_str(), 0, nullptr, &matches) == 0) {
        found.insert(found.end(), matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
      }
      globfree(&matches);
    }
  }
  return found;
}

void* open_nvrtc() {
  for (const char* name : kNvrtc) {
    if (void* library = dlopen(name, RTLD_NOW)) {
      return library;
    }
    for (const auto& folder : folders()) {
      if (void* library = dlopen((folder + "/" + name).c_str(), RTLD_NOW)) {
        return library;
      }
    }
  }
  return nullptr;
}

// The functions that are used, by the names and types of CUDA's own headers.
struct Libraries {
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*compile)(void*, int, const char* const*) = nullptr;
  int (*log_size)(void*, std::size_t*) = nullptr;
  int (*log)(void*, char*) = nullptr;
  int (*cubin_size)(void*, std::size_t*) = nullptr;
  int (*cubin)(void*, char*) = nullptr;
  int (*destroy)(void**) = nullptr;
  int (*device)(int*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*load)(void**, const void*) = nullptr;
  int (*function)(void**, void*, const char*) = nullptr;
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**) = nullptr;
  const char* missing = nullptr;

  Libraries() {
    void* nvrtc = open_nvrtc();
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (nvrtc == nullptr || driver == nullptr) {
      missing = nvrtc == nullptr ? "libnvrtc" : "libcuda.so.1";
      return;
    }
    take(nvrtc, "nvrtcCreateProgram", create);
    take(nvrtc, "nvrtcCompileProgram", compile);
    take(nvrtc, "nvrtcGetProgramLogSize", log_size);
    take(nvrtc, "nvrtcGetProgramLog", log);
    take(nvrtc, "nvrtcGetCUBINSize", cubin_size);
    take(nvrtc, "nvrtcGetCUBIN", cubin);
    take(nvrtc, "nvrtcDestroyProgram", destroy);
    take(driver, "cuDeviceGet", device);
    take(driver, "cuDeviceGetAttribute", attribute);
    take(driver, "cuModuleLoadData", load);
    take(driver, "cuModuleGetFunction", function);
    take(driver, "cuLaunchKernel", launch);
  }

  template <typename Function>
  void take(void* library, const char* name, Function& place) {
    place = reinterpret_cast<Function>(dlsym(library, name));
    if (place == nullptr) {
      missing = name;
    }
  }
};

const Libraries& libraries() {
  static const Libraries found;
  return found;
}

void checked(int code, const char* what) { TORCH_CHECK(code == 0, what, " failed with code ", code); }

// The machine code of a source for a device.
std::vector<char> compiled(const KernelSource& source, int device) {
  const auto& use = libraries();
  int handle = 0, major = 0, minor = 0;
  checked(use.device(&handle, device), "cuDeviceGet");
  checked(use.attribute(&major, 75, handle), "cuDeviceGetAttribute");  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
  checked(use.attribute(&minor, 76, handle), "cuDeviceGetAttribute");  // and MINOR
  const auto architecture = "--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor);
  const char* options[] = {architecture.c_str(), "--std=c++17"};
  const char* included = kNumberSource;
  const char* name = "number.h";
  void* program = nullptr;
  checked(use.create(&program, source.text, source.name, 1, &included, &name), "nvrtcCreateProgram");
  const int code = use.compile(program, 2, options);
  std::size_t size = 0;
  if (code != 0) {
    use.log_size(program, &size);
    std::string log(size, ' ');
    use.log(program, log.data());
    use.destroy(&program);
    TORCH_CHECK(false, "compiling ", source.name, " failed: ", log);
  }
  checked(use.cubin_size(program, &size), "nvrtcGetCUBINSize");
  std::vector<char> code_bytes(size);
  checked(use.cubin(program, code_bytes.data()), "nvrtcGetCUBIN");
  use.destroy(&program);
  return code_bytes;
}

// Compiled sources, by name and device; and functions, by source, device and name. Nothing of it is ever freed: the process uses it to its end.
struct Cache {
  std::mutex mutex;
  std::map<std::pair<std::string, int>, void*> modules;
  std::map<std::tuple<std::string, int, std::string>, void*> functions;
};

Cache& cache() {
  static auto* all = new Cache;
  return *all;
}

// The module of a source, with the cache's mutex held.
void* module_of(Cache& all, const KernelSource& source, int device) {
  auto& module = all.modules[{source.name, device}];
  if (module == nullptr) {
    const auto code = compiled(source, device);
    checked(libraries().load(&module, code.data()), "cuModuleLoadData");
  }
  return module;
}

void* function_of(const KernelSource& source, int device, const char* name) {
  auto& all = cache();
  std::lock_guard<std::mutex> lock(all.mutex);
  auto& function = all.functions[{source.name, device, name}];
  if (function == nullptr) {
    checked(libraries().function(&function, module_of(all, source, device), name), name);
  }
  return function;
}

void tell(const std::string& why) { std::fprintf(stderr, "no CUDA kernels of our own (%s); plain operations serve, slower\n", why.c_str()); }

}  // namespace

bool kernels_ready(const at::Device& device, const KernelSource& source) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, int>, bool> known;
  std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_pair(std::string(source.name), static_cast<int>(device.index()));
  const auto found = known.find(key);
  if (found != known.end()) {
    return found->second;
  }
  bool ready = libraries().missing == nullptr;
  std::string why = ready ? "" : std::string("there is no ") + libraries().missing;
  if (ready) {
    try {
      auto& all = cache();
      std::lock_guard<std::mutex> held(all.mutex);
      module_of(all, source, key.second);
    } catch (const c10::Error& error) {
      ready = false;
      why = error.what_without_backtrace();
    }
  }
  if (!ready) {
    tell(why);
  }
  return known[key] = ready;
}

void launch(const at::Device& device, const KernelSource& source, const char* function, const KernelShape& shape, void** arguments) {
  if (shape.blocks_x == 0 || shape.blocks_y == 0) {
    return;
  }
  const c10::impl::VirtualGuardImpl guard(device.type());
  void* stream = guard.getStream(device).native_handle();
  const auto x = static_cast<unsigned>(shape.blocks_x), y = static_cast<unsigned>(shape.blocks_y);
  void* kernel = function_of(source, device.index(), function);
  checked(libraries().launch(kernel, x, y, 1, static_cast<unsigned>(shape.threads), 1, 1, 0, stream, arguments, nullptr), function);
}

}  // namespace qapipe
