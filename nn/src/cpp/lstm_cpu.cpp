// The recurrence of an LSTM on the CPU: a loop over the tokens of each sequence and direction, sixteen numbers at a time.
#include "lanes.h"
#include "lstm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace qapipe {
namespace {

// A matrix whose rows are padded with zeros to whole lanes.
struct Padded {
  int64_t rows, width;
  std::vector<float> data;

  // data[r][c] = from[r * row_step + c * column_step]
  Padded(const float* from, int64_t rows, int64_t columns, int64_t row_step, int64_t column_step)
      : rows(rows), width((columns + kLanes - 1) / kLanes * kLanes), data(static_cast<std::size_t>(rows * width)) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        data[static_cast<std::size_t>(row * width + column)] = from[row * row_step + column * column_step];
      }
    }
  }
};

// sum[c] += of the rows, each times its factor. sum is as wide as the matrix.
QAPIPE_PART void add_rows(const Padded& matrix, const float* factors, float* sum) {
  constexpr int64_t kBlock = 4;
  for (int64_t column = 0; column < matrix.width; column += kBlock * kLanes) {
    const int64_t blocks = std::min(kBlock, (matrix.width - column) / kLanes);
    Lanes parts[kBlock];
    for (int64_t block = 0; block < blocks; ++block) {
      parts[block] = load(sum + column + block * kLanes, kLanes);
    }
    const float* row = matrix.data.data() + column;
    if (blocks == kBlock) {
      for (int64_t at = 0; at < matrix.rows; ++at, row += matrix.width) {
        const float factor = factors[at];
        for (int64_t block = 0; block < kBlock; ++block) {
          parts[block] += factor * load(row + block * kLanes, kLanes);
        }
      }
    } else {
      for (int64_t at = 0; at < matrix.rows; ++at, row += matrix.width) {
        for (int64_t block = 0; block < blocks; ++block) {
          parts[block] += factors[at] * load(row + block * kLanes, kLanes);
        }
      }
    }
    for (int64_t block = 0; block < blocks; ++block) {
      store(sum + column + block * kLanes, parts[block], kLanes);
    }
  }
}

QAPIPE_PART Lanes hyperbolic(const Lanes& x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

// One sequence in one direction: the token that comes first, the step to the next, how many there are.
struct Way {
  int64_t direction, first, step, count;

  Way(const int32_t* ends, int64_t sequence, int64_t direction)
      : direction(direction), first(direction == 0 ? ends[sequence] : ends[sequence + 1] - 1), step(direction == 0 ? 1 : -1),
        count(ends[sequence + 1] - ends[sequence]) {}

  // Where a token's numbers begin in units of `hidden`, with so many of them a direction.
  int64_t place(int64_t number, int64_t units) const { return ((first + number * step) * 2 + direction) * units; }
};

struct Pointers {
  const float *inflow, *given, *result;
  float *out, *to_inflow, *before;
  LstmKept kept;
  int64_t hidden;
};

QAPIPE_EACH_PROCESSOR
void go_forward(const Way& way, const Padded& weight, const Pointers& p) {
  const auto hidden = p.hidden;
  std::vector<float> gates(static_cast<std::size_t>(weight.width)), state(static_cast<std::size_t>(hidden)), cell(state.size());
  for (int64_t number = 0; number < way.count; ++number) {
    const auto four = way.place(number, 4 * hidden), one = way.place(number, hidden);
    std::memcpy(gates.data(), p.inflow + four, static_cast<std::size_t>(4 * hidden) * sizeof(float));
    add_rows(weight, state.data(), gates.data());
    for (int64_t at = 0; at < hidden; at += kLanes) {
      const auto count = std::min(kLanes, hidden - at);
      const Lanes enter = sigmoid(load(gates.data() + at, count)), keep = sigmoid(load(gates.data() + hidden + at, count));
      const Lanes content = hyperbolic(load(gates.data() + 2 * hidden + at, count)), open = sigmoid(load(gates.data() + 3 * hidden + at, count));
      const Lanes now = keep * load(cell.data() + at, count) + enter * content, result = open * hyperbolic(now);
      store(cell.data() + at, now, count);
      store(state.data() + at, result, count);
      store(p.out + one + at, result, count);
      if (p.kept.gates != nullptr) {
        store(p.kept.gates + four + at, enter, count);
        store(p.kept.gates + four + hidden + at, keep, count);
        store(p.kept.gates + four + 2 * hidden + at, content, count);
        store(p.kept.gates + four + 3 * hidden + at, open, count);
        store(p.kept.cells + one + at, now, count);
      }
    }
  }
}

QAPIPE_EACH_PROCESSOR
void go_back(const Way& way, const Padded& weight, const Pointers& p) {
  const auto hidden = p.hidden;
  std::vector<float> carried(static_cast<std::size_t>(weight.width)), flow(static_cast<std::size_t>(hidden));
  for (int64_t number = way.count - 1; number >= 0; --number) {
    const auto four = way.place(number, 4 * hidden), one = way.place(number, hidden), last = way.place(number - 1, hidden);
    const float* gates = p.kept.gates + four;
    float* change = p.to_inflow + four;
    for (int64_t at = 0; at < hidden; at += kLanes) {
      const auto count = std::min(kLanes, hidden - at);
      const Lanes enter = load(gates + at, count), keep = load(gates + hidden + at, count), content = load(gates + 2 * hidden + at, count);
      const Lanes open = load(gates + 3 * hidden + at, count), seen = hyperbolic(load(p.kept.cells + one + at, count));
      const Lanes before = number > 0 ? load(p.kept.cells + last + at, count) : Lanes{};
      const Lanes down = load(p.given + one + at, count) + load(carried.data() + at, count);
      const Lanes sum = load(flow.data() + at, count) + down * open * (1.0f - seen * seen);
      store(change + at, sum * content * enter * (1.0f - enter), count);
      store(change + hidden + at, sum * before * keep * (1.0f - keep), count);
      store(change + 2 * hidden + at, sum * enter * (1.0f - content * content), count);
      store(change + 3 * hidden + at, down * seen * open * (1.0f - open), count);
      store(flow.data() + at, sum * keep, count);
      store(p.before + one + at, number > 0 ? load(p.result + last + at, count) : Lanes{}, count);
    }
    std::fill(carried.begin(), carried.end(), 0.0f);
    add_rows(weight, change, carried.data());
  }
}

// Goes over all sequences in both directions, side by side.
template <typename Go>
void each_way(const Lstm& lstm, const std::vector<Padded>& weights, const Pointers& pointers, const Go& go) {
  const auto* ends = lstm.ends.const_data_ptr<int32_t>();
  at::parallel_for(0, 2 * lstm.sequences(), 1, [&](int64_t from, int64_t to) {
    for (int64_t at = from; at < to; ++at) {
      go(Way(ends, at / 2, at % 2), weights[static_cast<std::size_t>(at % 2)], pointers);
    }
  });
}

}  // namespace

bool lstm_cpu_takes(const at::Tensor& inflow) { return inflow.is_cpu() && inflow.scalar_type() == at::kFloat; }

void lstm_cpu(const Lstm& lstm, const LstmKept& kept, at::Tensor& out) {
  const auto hidden = lstm.hidden();
  const auto* weight = lstm.weight.const_data_ptr<float>();
  std::vector<Padded> weights;
  for (int64_t direction = 0; direction < 2; ++direction) {
    weights.emplace_back(weight + direction * 4 * hidden * hidden, hidden, 4 * hidden, 1, hidden);
  }
  Pointers pointers{lstm.inflow.const_data_ptr<float>(), nullptr, nullptr, out.mutable_data_ptr<float>(), nullptr, nullptr, kept, hidden};
  each_way(lstm, weights, pointers, go_forward);
}

void lstm_cpu_backward(const Lstm& lstm, const LstmKept& kept, LstmSlopes& slopes) {
  const auto hidden = lstm.hidden();
  const auto* weight = lstm.weight.const_data_ptr<float>();
  std::vector<Padded> weights;
  for (int64_t direction = 0; direction < 2; ++direction) {
    weights.emplace_back(weight + direction * 4 * hidden * hidden, 4 * hidden, hidden, hidden, 1);
  }
  Pointers pointers{nullptr, slopes.given.const_data_ptr<float>(), slopes.out.const_data_ptr<float>(), nullptr,
                    slopes.inflow.mutable_data_ptr<float>(), slopes.before.mutable_data_ptr<float>(), kept, hidden};
  each_way(lstm, weights, pointers, go_back);
}

}  // namespace qapipe
