// Adding to a residual stream and normalising it by its root mean square, in one kernel on CUDA: between two matrix products of a token that is
// written, launches cost more than arithmetic.
#include "guard.h"
#include "kernels.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

namespace qapipe {
namespace {

constexpr char kNormSource[] = R"cuda(
#include "number.h"

// A block is a row. sum [rows, width] is changed in place; change [rows, width], or null; out [rows, width].
extern "C" __global__ void __launch_bounds__(256)
add_norm(float* sum, const void* change, const float* weight, void* out, int width, float epsilon) {
  __shared__ float parts[8];
  const long long first = (long long)blockIdx.x * width;
  float squares = 0.0f;
  for (int at = threadIdx.x; at < width; at += 256) {
    float value = sum[first + at];
    if (change != nullptr) {
      value += Number<Half>::read(change, first + at);
      sum[first + at] = value;
    }
    squares += value * value;
  }
  for (int step = 16; step > 0; step >>= 1) squares += __shfl_xor_sync(0xffffffffu, squares, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = squares;
  __syncthreads();
  float all = 0.0f;
  for (int warp = 0; warp < 8; ++warp) all += parts[warp];
  const float scale = rsqrtf(all / width + epsilon);
  for (int at = threadIdx.x; at < width; at += 256) Number<Half>::write(out, first + at, sum[first + at] * scale * weight[at]);
}
)cuda";

const KernelSource kSource{"norm.cu", kNormSource};

}  // namespace
}  // namespace qapipe

// sum: f32 [rows, width], contiguous, changed in place where there is a change (bf16, or null). weight: f32 [width]. Gives bf16 [rows, width], or
// null where there is no kernel; then nothing was changed.
QAPIPE_API char* qapipe_add_norm(at::Tensor** out, at::Tensor* sum, const at::Tensor* change, const at::Tensor* weight, double epsilon) {
  return qapipe::guarded([&] {
    *out = nullptr;
    const bool fits = sum->is_cuda() && sum->scalar_type() == at::kFloat && sum->dim() == 2 && sum->is_contiguous() &&
                      weight->scalar_type() == at::kFloat && weight->is_contiguous() &&
                      (change == nullptr || (change->scalar_type() == at::kBFloat16 && change->is_contiguous() && change->sizes() == sum->sizes()));
    if (!fits || at::GradMode::is_enabled() || !qapipe::kernels_ready(sum->device(), qapipe::kSource)) {
      return;
    }
    auto result = at::empty(sum->sizes(), sum->options().dtype(at::kBFloat16));
    float* place = sum->mutable_data_ptr<float>();
    const void* more = change == nullptr ? nullptr : change->const_data_ptr();
    const float* scale = weight->const_data_ptr<float>();
    void* to = result.mutable_data_ptr();
    auto width = static_cast<int32_t>(sum->size(1));
    auto least = static_cast<float>(epsilon);
    void* arguments[] = {&place, &more, &scale, &to, &width, &least};
    qapipe::launch(sum->device(), qapipe::kSource, "add_norm", {sum->size(0), 1, 256}, arguments);
    *out = new at::Tensor(std::move(result));
  });
}
