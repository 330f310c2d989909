// A matrix with weights left out, and the gradient that goes straight through to the scores that decide.
#include "guard.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace qapipe {
namespace {

class MaskedWeight : public torch::autograd::Function<MaskedWeight> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight, const at::Tensor& mask,
                            const std::optional<at::Tensor>& scores) {
    context->save_for_backward({weight, mask});
    context->saved_data["scored"] = scores.has_value();
    return at::mul(weight, mask);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto& gradient = gradients[0];
    at::Tensor of_weight, of_scores;
    if (context->needs_input_grad(0)) {
      of_weight = at::mul(gradient, saved[1]);
    }
    // Scores that are not there have no number among those that may want a gradient.
    if (context->saved_data["scored"].toBool() && context->needs_input_grad(2)) {
      of_scores = at::mul(gradient.to(at::kFloat), saved[0]);
    }
    return {of_weight, at::Tensor(), of_scores};
  }
};

}  // namespace
}  // namespace qapipe

// weight [rows, in]; mask bool of the same shape; scores f32 of the same shape, or null.
QAPIPE_API char* qapipe_masked(at::Tensor** out, const at::Tensor* weight, const at::Tensor* mask, const at::Tensor* scores) {
  return qapipe::guarded([&] {
    TORCH_CHECK(mask->sizes() == weight->sizes(), "a mask ", mask->sizes(), " does not fit weights ", weight->sizes());
    *out = new at::Tensor(qapipe::MaskedWeight::apply(*weight, *mask, scores == nullptr ? std::nullopt : std::make_optional(*scores)));
  });
}
