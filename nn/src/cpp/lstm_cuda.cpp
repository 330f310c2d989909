// The recurrence of an LSTM on CUDA, by kernels of our own.
#include "kernels.h"
#include "lstm.h"
#include "lstm_source.h"

#include <string>

namespace qapipe {
namespace {

const KernelSource kSource{"lstm.cu", kLstmSource};

// As the source declares them.
struct CudaLstm {
  const void *inflow, *weight;
  const int32_t* ends;
};
struct CudaSlopes {
  const void *out, *given;
  void *inflow, *before;
};

CudaLstm cuda_lstm(const Lstm& lstm) {
  return {lstm.inflow.const_data_ptr(), lstm.weight.const_data_ptr(), lstm.ends.const_data_ptr<int32_t>()};
}

void run(const char* stem, const Lstm& lstm, void** arguments) {
  const auto name = stem + std::to_string(lstm.hidden());
  launch(lstm.inflow.device(), kSource, name.c_str(), {lstm.sequences(), 2, static_cast<int>(4 * lstm.hidden())}, arguments);
}

}  // namespace

bool lstm_cuda_takes(const at::Tensor& inflow, int64_t hidden) {
  const bool known = hidden == 32 || hidden == 64 || hidden == 96 || hidden == 128;  // WIDTH of the source
  return known && inflow.is_cuda() && inflow.scalar_type() == at::kBFloat16 && kernels_ready(inflow.device(), kSource);
}

void lstm_cuda(const Lstm& lstm, const LstmKept& kept, at::Tensor& out) {
  auto given = cuda_lstm(lstm);
  auto left = kept;
  void* place = out.mutable_data_ptr();
  void* arguments[] = {&given, &left, &place};
  run("lstm_", lstm, arguments);
}

void lstm_cuda_backward(const Lstm& lstm, const LstmKept& kept, LstmSlopes& slopes) {
  auto given = cuda_lstm(lstm);
  auto left = kept;
  CudaSlopes places{slopes.out.const_data_ptr(), slopes.given.const_data_ptr(), slopes.inflow.mutable_data_ptr(), slopes.before.mutable_data_ptr()};
  void* arguments[] = {&given, &left, &places};
  run("lstm_back_", lstm, arguments);
}

}  // namespace qapipe
