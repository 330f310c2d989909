// Gradients of a function of tensors by running it again with a graph: for what keeps nothing but its inputs.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

namespace qapipe {

// The gradients of function(inputs), given the gradient of its result; undefined for an undefined input, or where `wanted` says no.
template <typename Function>
std::vector<at::Tensor> recomputed_gradients(const Function& function, const std::vector<at::Tensor>& inputs, const std::vector<bool>& wanted,
                                             const at::Tensor& gradient) {
  at::AutoGradMode with_graph(true);
  std::vector<at::Tensor> leaves, sources, found(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    auto leaf = inputs[i].defined() ? inputs[i].detach() : at::Tensor();
    if (wanted[i] && leaf.defined()) {
      leaf.requires_grad_(true);
      sources.push_back(leaf);
    }
    leaves.push_back(leaf);
  }
  // What does not matter to the result has a gradient of zero: the decay of a scan of a single token.
  auto gradients = torch::autograd::grad({function(leaves)}, sources, {gradient}, std::nullopt, false, true);
  for (std::size_t i = 0, next = 0; i < inputs.size(); ++i) {
    if (leaves[i].defined() && leaves[i].requires_grad()) {
      found[i] = gradients[next].defined() ? gradients[next] : at::zeros_like(leaves[i]);
      ++next;
    }
  }
  return found;
}

}  // namespace qapipe
