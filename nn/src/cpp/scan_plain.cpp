// The selective scan by plain tensor operations: exact, on any device, and the measure of the kernels.
#include "scan.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

namespace qapipe {
namespace {

// h_t = decay_t h_{t-1} + entry_t along the first dimension, from zero. Chunks go side by side from zero, with the running product of the
// decays; then each chunk hands its last state on to the next. Products of decays only shrink, so nothing overflows, and nothing is divided.
at::Tensor recurrence(const at::Tensor& decay, const at::Tensor& entry, int64_t chunk) {
  const int64_t tokens = decay.size(0), count = (tokens + chunk - 1) / chunk;
  auto cut = [&](const at::Tensor& all) {
    auto padded = at::constant_pad_nd(all, {0, 0, 0, 0, 0, count * chunk - tokens});
    return padded.view({count, chunk, all.size(1), all.size(2)}).unbind(1);
  };
  const auto decays = cut(decay), entries = cut(entry);
  std::vector<at::Tensor> states{entries[0]}, products{decays[0]};
  for (int64_t i = 1; i < chunk; ++i) {
    states.push_back(at::addcmul(entries[i], decays[i], states.back()));
    products.push_back(decays[i] * products.back());
  }
  auto result = at::stack(states, 1);
  if (count > 1) {
    const auto ends = states.back().unbind(0), shares = products.back().unbind(0);
    std::vector<at::Tensor> before{at::zeros_like(ends[0]), ends[0]};
    for (int64_t i = 1; i + 1 < count; ++i) {
      before.push_back(at::addcmul(ends[i], shares[i], before.back()));
    }
    result = at::addcmul(result, at::stack(products, 1), at::stack(before, 0).unsqueeze(1));
  }
  return result.view({count * chunk, decay.size(1), decay.size(2)}).narrow(0, 0, tokens);
}

}  // namespace

at::Tensor scan_plain(const Scan& scan, at::Tensor* state, int64_t chunk) {
  const auto input = scan.input.to(at::kFloat);
  const auto step = at::softplus(scan.step.to(at::kFloat) + scan.step_bias);
  auto decay = at::exp(step.unsqueeze(2) * -at::exp(scan.decay_log));
  auto entry = (step * input).unsqueeze(2) * scan.entry.to(at::kFloat).unsqueeze(1);
  const auto first = scan.ends.narrow(0, 0, scan.sequences()).to(at::kLong);
  if (state != nullptr) {
    entry = entry.index_add(0, first, decay.index_select(0, first) * *state);
  }
  // A decay of zero forgets what came before, in the running products too: sequences do not see each other.
  decay = decay.index_fill(0, first, 0);
  const auto root = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(scan.tokens()))));
  const auto states = recurrence(decay, entry, chunk > 0 ? std::min(chunk, scan.tokens()) : root);
  if (state != nullptr) {
    state->copy_(states.index_select(0, scan.ends.narrow(0, 1, scan.sequences()).to(at::kLong) - 1));
  }
  const auto read = at::matmul(states, scan.exit.to(at::kFloat).unsqueeze(2)).squeeze(2);
  return ((read + scan.skip * input) * at::silu(scan.gate.to(at::kFloat))).to(scan.input.scalar_type());
}

}  // namespace qapipe
