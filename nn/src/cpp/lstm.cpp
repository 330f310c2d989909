// The recurrence of a bidirectional LSTM (Hochreiter and Schmidhuber 1997) over packed sequences, on CUDA, with its gradient.
#include "guard.h"
#include "kernels.h"
#include "lstm_source.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>

namespace qapipe {
namespace {

const KernelSource kSource{"lstm.cu", kLstmSource};

// As the source declares them.
struct Lstm {
  const void *inflow, *weight;
  const int32_t* ends;
};
struct Kept {
  float *gates, *cells;
};
struct Slopes {
  const void *out, *given;
  void *inflow, *before;
};

bool known_width(int64_t hidden) { return hidden == 32 || hidden == 64 || hidden == 96 || hidden == 128; }

Lstm lstm_of(const at::Tensor& inflow, const at::Tensor& weight, const at::Tensor& ends) {
  return {inflow.const_data_ptr(), weight.const_data_ptr(), ends.const_data_ptr<int32_t>()};
}

void run(const char* stem, const at::Tensor& weight, const at::Tensor& ends, void** arguments) {
  const auto hidden = weight.size(1);
  const auto name = stem + std::to_string(hidden);
  launch(weight.device(), kSource, name.c_str(), {ends.size(0) - 1, 2, static_cast<int>(4 * hidden)}, arguments);
}

// Gates and cells are kept where they are asked for.
at::Tensor forward_pass(const at::Tensor& inflow, const at::Tensor& weight, const at::Tensor& ends, at::Tensor* gates, at::Tensor* cells) {
  const auto tokens = inflow.size(0), hidden = weight.size(1);
  Kept kept{nullptr, nullptr};
  if (gates != nullptr) {
    const auto floats = inflow.options().dtype(at::kFloat);
    *gates = at::empty({tokens, 2, 4 * hidden}, floats);
    *cells = at::empty({tokens, 2, hidden}, floats);
    kept = {gates->mutable_data_ptr<float>(), cells->mutable_data_ptr<float>()};
  }
  auto out = at::empty({tokens, 2 * hidden}, inflow.options());
  auto given = lstm_of(inflow, weight, ends);
  void* place = out.mutable_data_ptr();
  void* arguments[] = {&given, &kept, &place};
  run("lstm_", weight, ends, arguments);
  return out;
}

class Recurrence : public torch::autograd::Function<Recurrence> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& inflow, const at::Tensor& weight, const at::Tensor& ends) {
    at::Tensor gates, cells;
    auto out = forward_pass(inflow, weight, ends, &gates, &cells);
    context->save_for_backward({inflow, weight, ends, gates, cells, out});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &inflow = saved[0], &weight = saved[1], &ends = saved[2], &gates = saved[3], &cells = saved[4], &out = saved[5];
    const auto tokens = inflow.size(0), hidden = weight.size(1);
    const auto slope = gradients[0].to(inflow.scalar_type()).contiguous();
    auto to_inflow = at::empty_like(inflow), before = at::empty({tokens, 2, hidden}, inflow.options());
    auto given = lstm_of(inflow, weight, ends);
    Kept kept{const_cast<float*>(gates.const_data_ptr<float>()), const_cast<float*>(cells.const_data_ptr<float>())};
    Slopes slopes{out.const_data_ptr(), slope.const_data_ptr(), to_inflow.mutable_data_ptr(), before.mutable_data_ptr()};
    void* arguments[] = {&given, &kept, &slopes};
    run("lstm_back_", weight, ends, arguments);
    // Of each direction: the changes of all gates by the states that they came from.
    const auto changes = to_inflow.view({tokens, 2, 4 * hidden}).permute({1, 2, 0});
    const auto to_weight = at::bmm(changes, before.transpose(0, 1)).view({8 * hidden, hidden});
    return {to_inflow, to_weight, at::Tensor()};
  }
};

}  // namespace
}  // namespace qapipe

// Whether there is a kernel for states of this width in this kind of number on this device.
QAPIPE_API char* qapipe_lstm_takes(bool* takes, const at::Tensor* inflow, int64_t hidden) {
  return qapipe::guarded([&] {
    *takes = inflow->is_cuda() && inflow->scalar_type() == at::kBFloat16 && qapipe::known_width(hidden) &&
             qapipe::kernels_ready(inflow->device(), qapipe::kSource);
  });
}

// inflow: what the input gives to the gates, biases included, [tokens, 8 hidden]: i, f, g, o of the way forward, then of the way back.
// weight: [8 hidden, hidden] alike. ends: int32 [sequences + 1]. Gives [tokens, 2 hidden].
QAPIPE_API char* qapipe_lstm(at::Tensor** out, const at::Tensor* inflow, const at::Tensor* weight, const at::Tensor* ends) {
  return qapipe::guarded([&] {
    const auto hidden = weight->size(1);
    TORCH_CHECK(qapipe::known_width(hidden) && weight->size(0) == 8 * hidden && inflow->dim() == 2 && inflow->size(1) == 8 * hidden,
                "an LSTM's weights ", weight->sizes(), " do not fit an inflow ", inflow->sizes());
    TORCH_CHECK(inflow->is_cuda() && inflow->scalar_type() == at::kBFloat16 && weight->scalar_type() == at::kBFloat16 &&
                    inflow->is_contiguous() && weight->is_contiguous() && ends->is_contiguous() && ends->scalar_type() == at::kInt,
                "the LSTM's kernel takes contiguous tensors in bf16 on CUDA");
    const bool graph = at::GradMode::is_enabled() && (inflow->requires_grad() || weight->requires_grad());
    if (graph) {
      *out = new at::Tensor(qapipe::Recurrence::apply(*inflow, *weight, *ends));
    } else {
      at::NoGradGuard no_graph;
      *out = new at::Tensor(qapipe::forward_pass(*inflow, *weight, *ends, nullptr, nullptr));
    }
  });
}
