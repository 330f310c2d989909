// The causal convolution on the CPU: a loop over the tokens for sixteen channels at once.
#include "conv.h"
#include "lanes.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace qapipe {
namespace {

// The sixteen channels from one on. Taps are counted back from the token itself.
struct Block {
  const float* input;
  int64_t stride;
  const int64_t* positions;
  int64_t tokens, taps, channel, count;
  std::vector<Lanes> weight;
  Lanes bias;
};

// Tensors of a convolution in f32.
struct Prepared {
  at::Tensor input, weight, bias, positions;
  int64_t blocks;

  explicit Prepared(const Conv& conv)
      : input(conv.input.to(at::kFloat)), weight(conv.weight.to(at::kFloat).contiguous()), bias(conv.bias.to(at::kFloat).contiguous()),
        positions(conv.positions.contiguous()), blocks((conv.channels() + kLanes - 1) / kLanes) {}

  Block block(int64_t number) const {
    const int64_t channel = number * kLanes, count = std::min(kLanes, input.size(1) - channel), taps = weight.size(2);
    Block block{input.const_data_ptr<float>() + channel, input.stride(0), positions.const_data_ptr<int64_t>(), input.size(0), taps, channel, count,
                std::vector<Lanes>(taps), load(bias.const_data_ptr<float>() + channel, count)};
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t lane = 0; lane < count; ++lane) {
        block.weight[tap][lane] = weight.const_data_ptr<float>()[(channel + lane) * taps + taps - 1 - tap];
      }
    }
    return block;
  }
};

// The sum before the activation at one token.
QAPIPE_PART Lanes sum_at(const Block& block, int64_t token) {
  const int64_t seen = std::min(block.taps, block.positions[token] + 1);
  Lanes sum = block.bias;
  for (int64_t tap = 0; tap < seen; ++tap) {
    sum += block.weight[tap] * load(block.input + (token - tap) * block.stride, block.count);
  }
  return sum;
}

QAPIPE_EACH_PROCESSOR void forward_block(const Block& block, float* out, int64_t stride) {
  for (int64_t token = 0; token < block.tokens; ++token) {
    const Lanes sum = sum_at(block, token);
    store(out + token * stride, sum * sigmoid(sum), block.count);
  }
}

// to_input begins as zero: a token's gradient gathers as the tokens that saw it come by.
QAPIPE_EACH_PROCESSOR void backward_block(const Block& block, const float* gradient, float* to_input, int64_t stride, Lanes* to_weight,
                                          Lanes& to_bias) {
  for (int64_t token = 0; token < block.tokens; ++token) {
    const Lanes sum = sum_at(block, token), open = sigmoid(sum);
    const Lanes slope = load(gradient + token * stride, block.count) * open * (1.0f + sum * (1.0f - open));
    const int64_t seen = std::min(block.taps, block.positions[token] + 1);
    for (int64_t tap = 0; tap < seen; ++tap) {
      float* place = to_input + (token - tap) * stride;
      store(place, load(place, block.count) + slope * block.weight[tap], block.count);
      to_weight[tap] += slope * load(block.input + (token - tap) * block.stride, block.count);
    }
    to_bias += slope;
  }
}

}  // namespace

bool conv_cpu_takes(const Conv& conv) {
  const auto kind = conv.input.scalar_type();
  return conv.input.is_cpu() && (conv.input.stride(1) == 1 || conv.channels() == 1) && (kind == at::kFloat || kind == at::kBFloat16);
}

at::Tensor conv_cpu(const Conv& conv) {
  const Prepared all(conv);
  auto out = at::empty({conv.tokens(), conv.channels()}, all.input.options());
  at::parallel_for(0, all.blocks, 1, [&](int64_t from, int64_t to) {
    for (int64_t number = from; number < to; ++number) {
      const auto block = all.block(number);
      forward_block(block, out.mutable_data_ptr<float>() + block.channel, conv.channels());
    }
  });
  return out.to(conv.input.scalar_type());
}

std::vector<at::Tensor> conv_cpu_backward(const Conv& conv, const at::Tensor& gradient) {
  const Prepared all(conv);
  const auto channels = conv.channels(), taps = conv.taps();
  const auto given = gradient.to(at::kFloat).contiguous();
  auto to_input = at::zeros({conv.tokens(), channels}, all.input.options());
  auto to_weight = at::empty({channels, 1, taps}, all.input.options()), to_bias = at::empty({channels}, all.input.options());
  at::parallel_for(0, all.blocks, 1, [&](int64_t from, int64_t to) {
    for (int64_t number = from; number < to; ++number) {
      const auto block = all.block(number);
      std::vector<Lanes> weight(taps);
      Lanes bias{};
      backward_block(block, given.const_data_ptr<float>() + block.channel, to_input.mutable_data_ptr<float>() + block.channel, channels,
                     weight.data(), bias);
      for (int64_t lane = 0; lane < block.count; ++lane) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          to_weight.mutable_data_ptr<float>()[(block.channel + lane) * taps + taps - 1 - tap] = weight[tap][lane];
        }
      }
      store(to_bias.mutable_data_ptr<float>() + block.channel, bias, block.count);
    }
  });
  const auto kind = conv.input.scalar_type();
  return {to_input.to(kind), to_weight.to(conv.weight.scalar_type()), to_bias.to(conv.bias.scalar_type())};
}

}  // namespace qapipe
