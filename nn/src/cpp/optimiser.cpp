// Collecting gradients and the fused AdamW step, each in few kernels.
#include "guard.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zero.h>

#include <map>

namespace qapipe {
namespace {

// Gradients of one kind of number, and where they go.
struct Moves {
  std::vector<at::Tensor> from, to;
};

}  // namespace
}  // namespace qapipe

// Moves the gradients of the leaves into f32 views, and drops them from the leaves. With add, they are added to what is there;
// otherwise they replace it, and a leaf without a gradient leaves zeros. flat: what the views are parts of.
// found: how many leaves had one; none changes nothing.
QAPIPE_API char* qapipe_collect_gradients(at::Tensor* const* leaves, at::Tensor* const* views, std::size_t count, at::Tensor* flat, bool add,
                                          std::size_t* found) {
  return qapipe::guarded([&] {
    at::NoGradGuard no_grad;
    // libtorch does in a few kernels only what is of one kind, and scores and weights may be of two.
    std::map<at::ScalarType, qapipe::Moves> kinds;
    *found = 0;
    for (std::size_t i = 0; i < count; ++i) {
      auto& gradient = leaves[i]->mutable_grad();
      if (gradient.defined()) {
        auto& moves = kinds[gradient.scalar_type()];
        moves.from.push_back(std::move(gradient));
        gradient = at::Tensor();
        moves.to.push_back(*views[i]);
        ++*found;
      }
    }
    if (*found > 0 && *found < count && !add) {
      flat->zero_();
    }
    for (auto& [kind, moves] : kinds) {
      if (add) {
        at::_foreach_add_(moves.to, moves.from);
      } else {
        at::_foreach_copy_(moves.to, moves.from, /*non_blocking=*/true);
      }
    }
  });
}

// One AdamW step over flat tensors (Loshchilov and Hutter 2019, arXiv 1711.05101). step: f32 scalar, counted already.
// divisor: null, or an f32 scalar that the gradient is divided by first.
QAPIPE_API char* qapipe_fused_adamw(at::Tensor* parameter, at::Tensor* gradient, at::Tensor* first, at::Tensor* second, at::Tensor* step,
                                    double rate, double beta1, double beta2, double decay, double epsilon, const at::Tensor* divisor) {
  return qapipe::guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> parameters{*parameter}, gradients{*gradient}, firsts{*first}, seconds{*second}, steps{*step};
    std::optional<at::Tensor> scale;
    if (divisor != nullptr) {
      scale = *divisor;
    }
    at::_fused_adamw_(parameters, gradients, firsts, seconds, {}, steps, rate, beta1, beta2, decay, epsilon,
                      /*amsgrad=*/false, /*maximize=*/false, scale, std::nullopt);
  });
}
