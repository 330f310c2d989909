// A matrix with weights left out, and the gradient that goes straight through to the scores that decide.
#include "guard.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace qapipe {
namespace {

class MaskedWeight : public torch::autograd::Function<MaskedWeight> {
 public:
  // scores: of the rows that begin at starts, in their order.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight, const at::Tensor& mask, at::TensorList scores,
                            const std::vector<int64_t>& starts) {
    std::vector<int64_t> heights;
    heights.reserve(scores.size());
    for (const auto& part : scores) {
      heights.push_back(part.size(0));
    }
    context->save_for_backward({weight, mask});
    context->saved_data["starts"] = starts;
    context->saved_data["heights"] = std::move(heights);
    return at::mul(weight, mask);
  }

  // Scores follow weight and mask in the order of gradients; what they belong to comes last.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto starts = context->saved_data["starts"].toIntVector(), heights = context->saved_data["heights"].toIntVector();
    torch::autograd::variable_list given(3 + starts.size());
    if (context->needs_input_grad(0)) {
      given[0] = at::mul(gradients[0], saved[1]);
    }
    bool wanted = false;
    for (std::size_t part = 0; part < starts.size(); ++part) {
      wanted = wanted || context->needs_input_grad(2 + part);
    }
    if (!wanted) {
      return given;
    }
    // One product for the rows of all parts, each of which takes its own of it.
    const int64_t first = starts.front(), height = starts.back() + heights.back() - first;
    const auto all = at::mul(gradients[0].narrow(0, first, height).to(at::kFloat), saved[0].narrow(0, first, height));
    for (std::size_t part = 0; part < starts.size(); ++part) {
      given[2 + part] = all.narrow(0, starts[part] - first, heights[part]);
    }
    return given;
  }
};

// Throws where scores do not lie one below the other within a weight.
void check(const at::Tensor& weight, const at::Tensor& mask, const std::vector<at::Tensor>& scores, const std::vector<int64_t>& starts) {
  TORCH_CHECK(weight.dim() == 2 && mask.sizes() == weight.sizes(), "a mask ", mask.sizes(), " does not fit weights ", weight.sizes());
  int64_t end = 0;
  for (std::size_t part = 0; part < scores.size(); ++part) {
    TORCH_CHECK(scores[part].dim() == 2 && scores[part].size(1) == weight.size(1) && starts[part] >= end &&
                    starts[part] + scores[part].size(0) <= weight.size(0),
                "scores ", scores[part].sizes(), " from row ", starts[part], " on do not fit weights ", weight.sizes());
    end = starts[part] + scores[part].size(0);
  }
}

}  // namespace
}  // namespace qapipe

// weight [rows, in]; mask bool of the same shape; count scores f32 [height, in], each of the rows that begin at one of starts, which rise.
QAPIPE_API char* qapipe_masked(at::Tensor** out, const at::Tensor* weight, const at::Tensor* mask, at::Tensor* const* scores,
                               const int64_t* starts, std::size_t count) {
  return qapipe::guarded([&] {
    const auto parts = qapipe::listed(scores, count);
    const std::vector<int64_t> places(starts, starts + count);
    qapipe::check(*weight, *mask, parts, places);
    *out = new at::Tensor(qapipe::MaskedWeight::apply(*weight, *mask, at::TensorList(parts), places));
  });
}
