// The selective scan on the CPU: a loop over the tokens for sixteen channels at once, all states of a token in registers or near.
//
// The work is cut the same way whatever the number of threads, and every sum has one order: results are the same bit for bit.
#include "lanes.h"
#include "scan.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace qapipe {
namespace {

// Tokens between two states that are kept on the way forward, when there will be a way back.
constexpr int64_t kChunk = 32;
// Neighbouring blocks that go forward together.
constexpr int64_t kTeam = 8;
// Parts of the channels whose gradients of B and C are summed up by themselves.
constexpr int64_t kGroups = 16;

// Rows of f32, that may lie apart.
struct Rows {
  const float* data;
  int64_t stride;
  const float* at(int64_t row) const { return data + row * stride; }
};

// Tensors of a scan in f32, and pointers into them.
struct Prepared {
  at::Tensor input, step, gate, entry, exit, decay, skip, step_bias, ends;
  int64_t channels, width, blocks;

  explicit Prepared(const Scan& scan)
      : input(scan.input.to(at::kFloat)), step(scan.step.to(at::kFloat)), gate(scan.gate.to(at::kFloat)),
        entry(scan.entry.to(at::kFloat)), exit(scan.exit.to(at::kFloat)), decay((-at::exp(scan.decay_log)).contiguous()),
        skip(scan.skip.contiguous()), step_bias(scan.step_bias.contiguous()), ends(scan.ends.contiguous()),
        channels(scan.channels()), width(scan.state()), blocks((channels + kLanes - 1) / kLanes) {}

  static Rows rows(const at::Tensor& tensor) { return {tensor.const_data_ptr<float>(), tensor.stride(0)}; }
};

// The sixteen channels from one on, over one sequence.
struct Block {
  Rows input, step, gate, entry, exit;
  int64_t width, channel, count, begin, end;
  Lanes skip, step_bias;
  std::vector<Lanes> decay;

  Block(const Prepared& all, int64_t sequence, int64_t block)
      : input(Prepared::rows(all.input)), step(Prepared::rows(all.step)), gate(Prepared::rows(all.gate)), entry(Prepared::rows(all.entry)),
        exit(Prepared::rows(all.exit)), width(all.width), channel(block * kLanes), count(std::min(kLanes, all.channels - channel)),
        begin(all.ends.const_data_ptr<int32_t>()[sequence]), end(all.ends.const_data_ptr<int32_t>()[sequence + 1]),
        skip(load(all.skip.const_data_ptr<float>() + channel, count)),
        step_bias(load(all.step_bias.const_data_ptr<float>() + channel, count)), decay(width) {
    const float* from = all.decay.const_data_ptr<float>() + channel * width;
    for (int64_t lane = 0; lane < count; ++lane) {
      for (int64_t s = 0; s < width; ++s) {
        decay[s][lane] = from[lane * width + s];
      }
    }
  }
};

// States [channels, width] of a block as lanes, and back.
void read_state(const float* from, const Block& block, Lanes* state) {
  for (int64_t lane = 0; lane < block.count; ++lane) {
    for (int64_t s = 0; s < block.width; ++s) {
      state[s][lane] = from[(block.channel + lane) * block.width + s];
    }
  }
}

void write_state(float* to, const Block& block, const Lanes* state) {
  for (int64_t lane = 0; lane < block.count; ++lane) {
    for (int64_t s = 0; s < block.width; ++s) {
      to[(block.channel + lane) * block.width + s] = state[s][lane];
    }
  }
}

QAPIPE_EACH_PROCESSOR void forward_block(const Block& block, int64_t first, int64_t last, Lanes* state, float* out, int64_t out_stride) {
  const int64_t width = block.width, count = block.count;
  const Lanes* decay = block.decay.data();
  for (int64_t token = first; token < last; ++token) {
    const Lanes input = load(block.input.at(token) + block.channel, count);
    const Lanes step = softplus(load(block.step.at(token) + block.channel, count) + block.step_bias);
    const Lanes gate = load(block.gate.at(token) + block.channel, count);
    const Lanes inflow = step * input;
    const float *entry = block.entry.at(token), *exit = block.exit.at(token);
    Lanes sum = block.skip * input;
    for (int64_t s = 0; s < width; ++s) {
      const Lanes next = exponential(step * decay[s]) * state[s] + inflow * entry[s];
      state[s] = next;
      sum += next * exit[s];
    }
    store(out + token * out_stride + block.channel, sum * gate * sigmoid(gate), count);
  }
}

// A few neighbouring blocks, some tokens of the one and then of the next: they share pages of memory, which takes most of the time.
void forward_team(const Prepared& all, int64_t sequence, int64_t team, float* state, float* out) {
  std::vector<Block> blocks;
  for (int64_t number = team * kTeam; number < std::min((team + 1) * kTeam, all.blocks); ++number) {
    blocks.emplace_back(all, sequence, number);
  }
  std::vector<Lanes> states(blocks.size() * all.width);
  for (std::size_t i = 0; state != nullptr && i < blocks.size(); ++i) {
    read_state(state, blocks[i], &states[i * all.width]);
  }
  for (int64_t first = blocks[0].begin; first < blocks[0].end; first += kChunk) {
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      forward_block(blocks[i], first, std::min(first + kChunk, blocks[i].end), &states[i * all.width], out, all.channels);
    }
  }
  for (std::size_t i = 0; state != nullptr && i < blocks.size(); ++i) {
    write_state(state, blocks[i], &states[i * all.width]);
  }
}

// What the way back through one block needs and gives. Pointers to [tokens, channels] gradients share a stride.
struct Backward {
  Rows gradient;
  float *input, *step, *gate;
  int64_t stride;
  // Of B and C: [tokens, width], summed up over a group of blocks.
  float *entry, *exit;
  // Of this sequence: [channels, width], [channels], [channels].
  float *decay, *skip, *step_bias;
};

// What is kept of the tokens of a chunk, on the way back through it.
struct Chunk {
  std::vector<Lanes> before, share;  // [kChunk, width]: the state before a token, and its decay
  Lanes step[kChunk], slope[kChunk], input[kChunk], read[kChunk];

  explicit Chunk(int64_t width) : before(kChunk * width), share(kChunk * width) {}
};

// States before each chunk.
QAPIPE_EACH_PROCESSOR void checkpoints(const Block& block, Lanes* state, Lanes* kept) {
  const int64_t width = block.width;
  const Lanes* decay = block.decay.data();
  for (int64_t token = block.begin; token < block.end; ++token) {
    if ((token - block.begin) % kChunk == 0) {
      std::copy(state, state + width, kept);
      kept += width;
    }
    const Lanes step = softplus(load(block.step.at(token) + block.channel, block.count) + block.step_bias);
    const Lanes inflow = step * load(block.input.at(token) + block.channel, block.count);
    const float* entry = block.entry.at(token);
    for (int64_t s = 0; s < width; ++s) {
      state[s] = exponential(step * decay[s]) * state[s] + inflow * entry[s];
    }
  }
}

// Forward through a chunk again, keeping what the way back needs.
QAPIPE_EACH_PROCESSOR void recompute(const Block& block, int64_t first, int64_t last, Lanes* state, Chunk& chunk) {
  const int64_t width = block.width, count = block.count;
  const Lanes* decay = block.decay.data();
  for (int64_t token = first; token < last; ++token) {
    const int64_t at = token - first;
    const Lanes raw = load(block.step.at(token) + block.channel, count) + block.step_bias;
    const Lanes step = softplus(raw), input = load(block.input.at(token) + block.channel, count), inflow = step * input;
    const float *entry = block.entry.at(token), *exit = block.exit.at(token);
    Lanes sum = block.skip * input, *before = &chunk.before[at * width], *share = &chunk.share[at * width];
    for (int64_t s = 0; s < width; ++s) {
      before[s] = state[s];
      share[s] = exponential(step * decay[s]);
      state[s] = share[s] * state[s] + inflow * entry[s];
      sum += state[s] * exit[s];
    }
    chunk.step[at] = step;
    chunk.slope[at] = sigmoid(raw);
    chunk.input[at] = input;
    chunk.read[at] = sum;
  }
}

// Back through a chunk. flow: the gradient of the state after its last token, as later tokens see it; then of that before its first.
QAPIPE_EACH_PROCESSOR void back_through(const Block& block, int64_t first, int64_t last, const Chunk& chunk, Lanes* flow, Lanes* decay_sum,
                                        Lanes* sums, const Backward& out) {
  const int64_t width = block.width, count = block.count;
  for (int64_t token = last - 1; token >= first; --token) {
    const int64_t at = token - first, place = token * out.stride + block.channel;
    const Lanes gate = load(block.gate.at(token) + block.channel, count), open = sigmoid(gate);
    const Lanes gradient = load(out.gradient.at(token) + block.channel, count), inner = gradient * gate * open;
    const Lanes step = chunk.step[at], input = chunk.input[at], inflow = step * input;
    const float *entry = block.entry.at(token), *exit = block.exit.at(token);
    Lanes to_inflow{}, to_step{};
    for (int64_t s = 0; s < width; ++s) {
      const Lanes before = chunk.before[at * width + s], share = chunk.share[at * width + s];
      const Lanes here = flow[s] + inner * exit[s], kept = here * share, slope = kept * before;
      out.exit[token * width + s] += sum_of(inner * (share * before + inflow * entry[s]));
      out.entry[token * width + s] += sum_of(here * inflow);
      to_inflow += here * entry[s];
      to_step += slope * block.decay[s];
      decay_sum[s] += slope * step;
      flow[s] = kept;
    }
    const Lanes raw = (to_inflow * input + to_step) * chunk.slope[at];
    sums[0] += inner * input;
    sums[1] += raw;
    store(out.input + place, to_inflow * step + inner * block.skip, count);
    store(out.step + place, raw, count);
    store(out.gate + place, gradient * chunk.read[at] * open * (1.0f + gate * (1.0f - open)), count);
  }
}

void backward_block(const Block& block, const Backward& out) {
  const int64_t width = block.width, length = block.end - block.begin, chunks = (length + kChunk - 1) / kChunk;
  std::vector<Lanes> state(width), kept(chunks * width), flow(width), decay_sum(width);
  Lanes sums[2] = {};
  Chunk chunk(width);
  checkpoints(block, state.data(), kept.data());
  for (int64_t number = chunks - 1; number >= 0; --number) {
    const int64_t first = block.begin + number * kChunk, last = std::min(first + kChunk, block.end);
    std::copy_n(&kept[number * width], width, state.begin());
    recompute(block, first, last, state.data(), chunk);
    back_through(block, first, last, chunk, flow.data(), decay_sum.data(), sums, out);
  }
  // The decay is -exp of its logarithm: it is its own derivative.
  for (int64_t s = 0; s < width; ++s) {
    decay_sum[s] *= block.decay[s];
  }
  write_state(out.decay, block, decay_sum.data());
  store(out.skip + block.channel, sums[0], block.count);
  store(out.step_bias + block.channel, sums[1], block.count);
}

}  // namespace

bool scan_cpu_takes(const Scan& scan) {
  if (!scan.input.is_cpu()) {
    return false;
  }
  const auto kind = scan.input.scalar_type();
  const auto rows = {&scan.input, &scan.step, &scan.gate, &scan.entry, &scan.exit};
  const bool plain = std::all_of(rows.begin(), rows.end(), [](const auto* tensor) { return tensor->stride(1) == 1 || tensor->size(1) == 1; });
  return plain && (kind == at::kFloat || kind == at::kBFloat16);
}

at::Tensor scan_cpu(const Scan& scan, at::Tensor* state) {
  const Prepared all(scan);
  auto out = at::empty({scan.tokens(), all.channels}, all.input.options());
  const auto teams = (all.blocks + kTeam - 1) / kTeam;
  at::parallel_for(0, scan.sequences() * teams, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t sequence = task / teams;
      float* place = state == nullptr ? nullptr : state->mutable_data_ptr<float>() + sequence * all.channels * all.width;
      forward_team(all, sequence, task % teams, place, out.mutable_data_ptr<float>());
    }
  });
  return out.to(scan.input.scalar_type());
}

std::vector<at::Tensor> scan_cpu_backward(const Scan& scan, const at::Tensor& gradient) {
  const Prepared all(scan);
  const auto tokens = scan.tokens(), sequences = scan.sequences(), channels = all.channels, width = all.width;
  const auto groups = std::min(kGroups, all.blocks);
  const auto given = gradient.to(at::kFloat).contiguous();
  auto rows = at::empty({3, tokens, channels}, all.input.options());
  auto selection = at::zeros({2, groups, tokens, width}, all.input.options());
  auto decay = at::empty({sequences, channels, width}, all.input.options());
  auto sums = at::empty({2, sequences, channels}, all.input.options());
  at::parallel_for(0, sequences * groups, 1, [&](int64_t from, int64_t to) {
    auto *row = rows.mutable_data_ptr<float>(), *chosen = selection.mutable_data_ptr<float>(), *sum = sums.mutable_data_ptr<float>();
    for (int64_t task = from; task < to; ++task) {
      const int64_t sequence = task / groups, group = task % groups;
      const Backward out{Prepared::rows(given), row, row + tokens * channels, row + 2 * tokens * channels, channels,
                         chosen + group * tokens * width, chosen + (groups + group) * tokens * width,
                         decay.mutable_data_ptr<float>() + sequence * channels * width, sum + sequence * channels,
                         sum + (sequences + sequence) * channels};
      for (int64_t block = group; block < all.blocks; block += groups) {
        backward_block(Block(all, sequence, block), out);
      }
    }
  });
  const auto kind = scan.input.scalar_type();
  const auto chosen = selection.sum(1);
  return {rows[0].to(kind), rows[1].to(kind), rows[2].to(kind), chosen[0].to(kind), chosen[1].to(kind), decay.sum(0), sums[0].sum(0),
          sums[1].sum(0)};
}

}  // namespace qapipe
