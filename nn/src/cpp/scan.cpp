// The selective scan: which way it is computed, and its gradient.
#include "scan.h"

#include "guard.h"
#include "recompute.h"

#include <torch/csrc/autograd/custom_function.h>

namespace qapipe {
namespace {

enum class Way { kBest, kPlain, kKernel };

Scan scan_of(const std::vector<at::Tensor>& list) {
  return Scan{list[0], list[1], list[2], list[3], list[4], list[5], list[6], list[7], list[8]};
}

void check(const Scan& scan, const at::Tensor* state) {
  const auto tokens = scan.tokens(), channels = scan.channels(), width = scan.state();
  auto fits = [&](const at::Tensor& tensor, at::IntArrayRef shape) {
    TORCH_CHECK(tensor.sizes() == shape, "a selective scan takes a tensor ", shape, " where one ", tensor.sizes(), " was given");
    TORCH_CHECK(tensor.device() == scan.input.device(), "a selective scan takes tensors on one device");
  };
  for (const auto& tensor : {scan.input, scan.step, scan.gate}) {
    fits(tensor, {tokens, channels});
  }
  fits(scan.entry, {tokens, width});
  fits(scan.exit, {tokens, width});
  fits(scan.decay_log, {channels, width});
  fits(scan.skip, {channels});
  fits(scan.step_bias, {channels});
  fits(scan.ends, {scan.sequences() + 1});
  for (const auto& tensor : {scan.decay_log, scan.skip, scan.step_bias}) {
    TORCH_CHECK(tensor.scalar_type() == at::kFloat, "a selective scan takes its weights in f32");
  }
  if (state != nullptr) {
    fits(*state, {scan.sequences(), channels, width});
  }
}

// The kernel that computes a scan.
enum class Kernel { kNone, kCpu, kCuda };

Kernel kernel_for(const Scan& scan, Way way) {
  if (way != Way::kPlain && scan_cpu_takes(scan)) {
    return Kernel::kCpu;
  }
  if (way != Way::kPlain && scan_cuda_takes(scan)) {
    return Kernel::kCuda;
  }
  TORCH_CHECK(way != Way::kKernel, "there is no kernel for this selective scan");
  return Kernel::kNone;
}

at::Tensor run(const Scan& scan, at::Tensor* state, Kernel kernel, int64_t chunk) {
  switch (kernel) {
    case Kernel::kCpu:
      return scan_cpu(scan, state);
    case Kernel::kCuda:
      return scan_cuda(scan, state);
    default:
      return scan_plain(scan, state, chunk);
  }
}

// Keeps the inputs alone: states of all tokens are large, and soon made again.
class SelectiveScan : public torch::autograd::Function<SelectiveScan> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList tensors, int64_t kernel, int64_t chunk) {
    const auto list = tensors.vec();
    context->save_for_backward(list);
    context->saved_data["kernel"] = kernel;
    context->saved_data["chunk"] = chunk;
    return run(scan_of(list), nullptr, static_cast<Kernel>(kernel), chunk);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto list = context->get_saved_variables();
    const auto scan = scan_of(list);
    const auto chunk = context->saved_data["chunk"].toInt();
    torch::autograd::variable_list found;
    const auto kernel = static_cast<Kernel>(context->saved_data["kernel"].toInt());
    if (kernel == Kernel::kCpu) {
      found = scan_cpu_backward(scan, gradients[0]);
    } else if (kernel == Kernel::kCuda) {
      found = scan_cuda_backward(scan, gradients[0]);
    } else {
      std::vector<bool> wanted(list.size(), true);
      wanted.back() = false;
      found = recomputed_gradients([&](const auto& leaves) { return scan_plain(scan_of(leaves), nullptr, chunk); }, list, wanted, gradients[0]);
    }
    found.resize(list.size() + 2);
    return found;
  }
};

}  // namespace
}  // namespace qapipe

// tensors: those of a Scan, in its order. state: null, or read and overwritten; then there is no gradient. way: 0 as is best, 1 by plain
// tensor operations in chunks of `chunk` tokens (0: as is best), 2 by a kernel or not at all.
QAPIPE_API char* qapipe_selective_scan(at::Tensor** out, at::Tensor* const* tensors, std::size_t count, at::Tensor* state, int32_t way,
                                       int64_t chunk) {
  return qapipe::guarded([&] {
    const auto list = qapipe::listed(tensors, count);
    TORCH_CHECK(list.size() == qapipe::kScanGradients + 1, "a selective scan takes nine tensors");
    const auto scan = qapipe::scan_of(list);
    qapipe::check(scan, state);
    const auto kernel = qapipe::kernel_for(scan, static_cast<qapipe::Way>(way));
    bool graph = false;
    for (const auto& tensor : list) {
      graph = graph || (at::GradMode::is_enabled() && tensor.requires_grad());
    }
    TORCH_CHECK(!graph || state == nullptr, "a selective scan with states of its own has no gradient");
    if (graph) {
      *out = new at::Tensor(qapipe::SelectiveScan::apply(at::TensorList(list), static_cast<int64_t>(kernel), chunk));
    } else {
      at::NoGradGuard no_graph;
      *out = new at::Tensor(qapipe::run(scan, state, kernel, chunk));
    }
  });
}
