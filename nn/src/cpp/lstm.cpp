// The recurrence of a bidirectional LSTM: which way it is computed, and its gradient.
#include "lstm.h"

#include "guard.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

namespace qapipe {
namespace {

at::Tensor run(const Lstm& lstm, const LstmKept& kept) {
  auto out = at::empty({lstm.tokens(), 2 * lstm.hidden()}, lstm.inflow.options());
  if (lstm.inflow.is_cuda()) {
    lstm_cuda(lstm, kept, out);
  } else {
    lstm_cpu(lstm, kept, out);
  }
  return out;
}

class Recurrence : public torch::autograd::Function<Recurrence> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& inflow, const at::Tensor& weight, const at::Tensor& ends) {
    const Lstm lstm{inflow, weight, ends};
    const auto floats = inflow.options().dtype(at::kFloat);
    auto gates = at::empty({lstm.tokens(), 2, 4 * lstm.hidden()}, floats), cells = at::empty({lstm.tokens(), 2, lstm.hidden()}, floats);
    auto out = run(lstm, {gates.mutable_data_ptr<float>(), cells.mutable_data_ptr<float>()});
    context->save_for_backward({inflow, weight, ends, gates, cells, out});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    auto saved = context->get_saved_variables();
    const Lstm lstm{saved[0], saved[1], saved[2]};
    const auto tokens = lstm.tokens(), hidden = lstm.hidden();
    const LstmKept kept{saved[3].mutable_data_ptr<float>(), saved[4].mutable_data_ptr<float>()};
    const auto kind = lstm.inflow.options();
    LstmSlopes slopes{saved[5], gradients[0].to(kind).contiguous(), at::empty_like(lstm.inflow), at::empty({tokens, 2, hidden}, kind)};
    if (lstm.inflow.is_cuda()) {
      lstm_cuda_backward(lstm, kept, slopes);
    } else {
      lstm_cpu_backward(lstm, kept, slopes);
    }
    // Of each direction: the changes of all gates by the states that they came from.
    const auto changes = slopes.inflow.view({tokens, 2, 4 * hidden}).permute({1, 2, 0});
    const auto to_weight = at::bmm(changes, slopes.before.transpose(0, 1)).view({8 * hidden, hidden});
    return {slopes.inflow, to_weight, at::Tensor()};
  }
};

}  // namespace
}  // namespace qapipe

// Whether there is a loop or a kernel of our own for states of this width, for an inflow of this kind and on this device.
QAPIPE_API char* qapipe_lstm_takes(bool* takes, const at::Tensor* inflow, int64_t hidden) {
  return qapipe::guarded([&] { *takes = qapipe::lstm_cpu_takes(*inflow) || qapipe::lstm_cuda_takes(*inflow, hidden); });
}

// The tensors of an Lstm. Gives [tokens, 2 hidden].
QAPIPE_API char* qapipe_lstm(at::Tensor** out, const at::Tensor* inflow, const at::Tensor* weight, const at::Tensor* ends) {
  return qapipe::guarded([&] {
    const qapipe::Lstm lstm{inflow->contiguous(), weight->contiguous(), ends->contiguous()};
    const auto hidden = lstm.hidden();
    TORCH_CHECK(weight->size(0) == 8 * hidden && inflow->dim() == 2 && inflow->size(1) == 8 * hidden, "an LSTM's weights ", weight->sizes(),
                " do not fit an inflow ", inflow->sizes());
    TORCH_CHECK(qapipe::lstm_cpu_takes(lstm.inflow) || qapipe::lstm_cuda_takes(lstm.inflow, hidden), "there is no kernel for this LSTM");
    TORCH_CHECK(inflow->scalar_type() == weight->scalar_type() && ends->scalar_type() == at::kInt, "an LSTM's tensors are of one kind");
    const bool graph = at::GradMode::is_enabled() && (inflow->requires_grad() || weight->requires_grad());
    if (graph) {
      *out = new at::Tensor(qapipe::Recurrence::apply(lstm.inflow, lstm.weight, lstm.ends));
    } else {
      at::NoGradGuard no_graph;
      *out = new at::Tensor(qapipe::run(lstm, {}));
    }
  });
}
