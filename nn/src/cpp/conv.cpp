// The causal convolution: which way it is computed, and its gradient.
#include "conv.h"

#include "guard.h"
#include "recompute.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

namespace qapipe {

at::Tensor conv_plain(const Conv& conv) {
  const auto input = conv.input.to(at::kFloat), weight = conv.weight.to(at::kFloat).squeeze(1);
  auto sum = input * weight.select(1, -1) + conv.bias.to(at::kFloat);
  for (int64_t back = 1; back < std::min(conv.taps(), conv.tokens()); ++back) {
    const auto earlier = at::constant_pad_nd(input.narrow(0, 0, conv.tokens() - back), {0, 0, back, 0});
    sum = sum + at::where((conv.positions >= back).unsqueeze(1), earlier * weight.select(1, -1 - back), 0.0);
  }
  return at::silu(sum).to(conv.input.scalar_type());
}

namespace {

Conv conv_of(const std::vector<at::Tensor>& list) { return Conv{list[0], list[1], list[2], list[3]}; }

void check(const Conv& conv) {
  const auto channels = conv.channels();
  TORCH_CHECK(conv.weight.dim() == 3 && conv.weight.size(0) == channels && conv.weight.size(1) == 1, "a convolution of ", channels,
              " channels takes no weight ", conv.weight.sizes());
  TORCH_CHECK(conv.bias.sizes() == at::IntArrayRef{channels}, "a convolution of ", channels, " channels takes no bias ", conv.bias.sizes());
  TORCH_CHECK(conv.positions.sizes() == at::IntArrayRef{conv.tokens()}, "a convolution takes one position for each token");
}

at::Tensor run(const Conv& conv) {
  if (conv_cuda_takes(conv)) {
    return conv_cuda(conv);
  }
  return conv_cpu_takes(conv) ? conv_cpu(conv) : conv_plain(conv);
}

class CausalConv : public torch::autograd::Function<CausalConv> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList tensors) {
    const auto list = tensors.vec();
    context->save_for_backward(list);
    return run(conv_of(list));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto list = context->get_saved_variables();
    const auto conv = conv_of(list);
    torch::autograd::variable_list found;
    if (conv_cuda_takes(conv)) {
      found = conv_cuda_backward(conv, gradients[0]);
    } else if (conv_cpu_takes(conv)) {
      found = conv_cpu_backward(conv, gradients[0]);
    } else {
      found = recomputed_gradients([](const auto& leaves) { return conv_plain(conv_of(leaves)); }, list, {true, true, true, false}, gradients[0]);
    }
    found.resize(list.size());
    return found;
  }
};

}  // namespace
}  // namespace qapipe

// bias: null for none. positions: int64 [tokens].
QAPIPE_API char* qapipe_causal_conv(at::Tensor** out, const at::Tensor* input, const at::Tensor* weight, const at::Tensor* bias,
                                    const at::Tensor* positions) {
  return qapipe::guarded([&] {
    const auto own = bias == nullptr ? at::zeros({input->size(1)}, weight->options().requires_grad(false)) : *bias;
    const qapipe::Conv conv{*input, *weight, own, *positions};
    qapipe::check(conv);
    if (at::GradMode::is_enabled() && (input->requires_grad() || weight->requires_grad() || own.requires_grad())) {
      const std::vector<at::Tensor> list{conv.input, conv.weight, conv.bias, conv.positions};
      *out = new at::Tensor(qapipe::CausalConv::apply(at::TensorList(list)));
    } else {
      at::NoGradGuard no_graph;
      *out = new at::Tensor(qapipe::run(conv));
    }
  });
}
