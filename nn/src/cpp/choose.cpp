// Which weights of a model's matrices stay, and what their scores cost, in about ten kernels for all matrices on CUDA. Nothing waits for the
// device: how many stay of each is counted there.
#include "choose_source.h"
#include "guard.h"
#include "kernels.h"
#include "places.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <string>

namespace qapipe {

// How the best are chosen. The C++ and the Rust half share this layout.
struct Choice {
  double keep;         // the share that stays
  double temperature;  // what worth is divided by before its sigmoid, where groups share what stays
  int32_t budget;      // 0: of each matrix; 1: of each, by the sigmoids in its group; 2: of all together
  int32_t magnitude;   // whether worth is the distance from zero
};

namespace {

const KernelSource kSource{"choose.cu", kChooseSource};
constexpr int kThreads = 256, kBins = 2048, kDigits = 3;  // as in the source

// What lies on the device while the best are chosen, as kernels see it.
struct Work {
  void* states;
  int32_t *counts, *equals;
  double *sums, *means;
};

// Memory for it; what is here may be freed as soon as the kernels are in the stream.
struct Memory {
  at::Tensor states, counts, equals, sums, means;

  Memory(const Table& table, const at::Device& device) {
    const auto of = [&](at::ScalarType kind) { return at::TensorOptions().device(device).dtype(kind); };
    states = at::empty({table.places.row_count, 3}, of(at::kLong));
    counts = at::zeros({table.places.row_count, kDigits, kBins}, of(at::kInt));
    equals = at::empty({table.chunk_count}, of(at::kInt));
    sums = at::empty({table.chunk_count}, of(at::kDouble));
    means = at::empty({table.places.matrix_count}, of(at::kDouble));
  }

  Work work() const {
    return {states.mutable_data_ptr(), counts.mutable_data_ptr<int32_t>(), equals.mutable_data_ptr<int32_t>(),
            sums.mutable_data_ptr<double>(), means.mutable_data_ptr<double>()};
  }
};

// Launches kernels over a table, one after the other.
struct Launcher {
  at::Device device;
  Table table;
  Work work;
  bool half;
  uint32_t mask;  // the bits of a number that count

  // A block for each chunk.
  template <typename... More>
  void over_chunks(const std::string& what, More... more) {
    run(what + (half ? "_half" : "_float"), table.chunk_count, mask, more...);
  }

  template <typename... More>
  void run(const std::string& name, int64_t blocks, More... more) {
    void* arguments[] = {&table.places, &work, &more...};
    launch(device, kSource, name.c_str(), {blocks, 1, kThreads}, arguments);
  }
};

void choose(const Table& table, const Pair& first, const Choice& choice) {
  const Memory memory(table, first.from->device());
  const bool half = first.from->scalar_type() == at::kBFloat16;
  Launcher launcher{first.from->device(), table, memory.work(), half, choice.magnitude ? 0x7fffffffu : 0xffffffffu};
  const int32_t shared = choice.budget == 1;
  if (shared) {
    // As libtorch divides by a number: in f32, by multiplication.
    launcher.over_chunks("sum", 1.0f / static_cast<float>(choice.temperature));
  }
  launcher.run("count_rows", 1, choice.keep, shared);
  for (int32_t digit = 0; digit < kDigits; ++digit) {
    launcher.over_chunks("count", digit);
    launcher.run("find_digit", table.places.row_count, digit);
  }
  launcher.over_chunks("equals");
  launcher.over_chunks("set");
}

// Whoever kept what was changed for a way back learns that it is another.
void changed(const Pair* pairs, int64_t count) {
  for (int64_t at = 0; at < count; ++at) {
    if (!pairs[at].to->is_inference()) {
      pairs[at].to->unsafeGetTensorImpl()->bump_version();
    }
  }
}

}  // namespace
}  // namespace qapipe

// Set the masks (bool, to) of matrices (f32 or bf16, from), so that the best stay and of equal ones the first. done is false, and nothing is
// changed, where there is no kernel for these.
QAPIPE_API char* qapipe_choose(bool* done, const qapipe::Pair* pairs, std::size_t count, const qapipe::Choice* choice, at::Tensor* host,
                               at::Tensor* device) {
  return qapipe::guarded([&] {
    const auto number = static_cast<int64_t>(count);
    *done = qapipe::fits(pairs, number, at::kBool) &&
            (pairs[0].from->scalar_type() == at::kFloat || pairs[0].from->scalar_type() == at::kBFloat16) &&
            qapipe::kernels_ready(pairs[0].from->device(), qapipe::kSource);
    if (*done) {
      at::NoGradGuard no_grad;
      qapipe::choose(qapipe::told(pairs, number, choice->budget == 2, {host, device}), pairs[0], *choice);
      qapipe::changed(pairs, number);
    }
  });
}

// Adds price / (their size) * s(x) s(-x), s the sigmoid, of every score x (f32, from) to its gradient (f32, to). done is false, and nothing is
// changed, where there is no kernel for these.
QAPIPE_API char* qapipe_charge(bool* done, const qapipe::Pair* pairs, std::size_t count, double price, at::Tensor* host, at::Tensor* device) {
  return qapipe::guarded([&] {
    const auto number = static_cast<int64_t>(count);
    *done = qapipe::fits(pairs, number, at::kFloat) && pairs[0].from->scalar_type() == at::kFloat &&
            qapipe::kernels_ready(pairs[0].from->device(), qapipe::kSource);
    if (*done) {
      at::NoGradGuard no_grad;
      const auto table = qapipe::told(pairs, number, false, {host, device});
      auto places = table.places;
      void* arguments[] = {&places, &price};
      qapipe::launch(pairs[0].from->device(), qapipe::kSource, "charge", {table.chunk_count, 1, qapipe::kThreads}, arguments);
      qapipe::changed(pairs, number);
    }
  });
}
