// The selective scan and the causal convolution on CUDA, by kernels of our own.
#include "conv.h"
#include "kernels.h"
#include "scan.h"
#include "scan_source.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <string>

namespace qapipe {
namespace {

const KernelSource kSource{"selective_scan.cu", kScanSource};
constexpr int64_t kTile = 16;      // TILE of the source
constexpr int64_t kMostTaps = 8;   // MOST_TAPS of the source
constexpr int64_t kSpan = 128;     // tokens of a block that sums up the convolution's weights

// As the source declares them.
struct Rows {
  const void* data;
  int64_t stride;
};
struct CudaScan {
  Rows input, step, gate, entry, exit;
  const float *decay_log, *skip, *step_bias;
  const int32_t* ends;
  int32_t channels, width;
};
struct CudaGradients {
  Rows out;
  void *input, *step, *gate;
  float *entry, *exit, *decay, *skip, *step_bias, *kept;
  const int32_t* tiles;
  int32_t tokens;
};
struct CudaConv {
  Rows input;
  const void *weight, *bias;
  const int64_t* positions;
  int32_t tokens, channels, taps;
};

Rows rows(const at::Tensor& tensor) { return {tensor.const_data_ptr(), tensor.stride(0)}; }

bool plain_rows(const at::Tensor& tensor, at::ScalarType kind) {
  return tensor.scalar_type() == kind && (tensor.stride(1) == 1 || tensor.size(1) == 1);
}

bool known(at::ScalarType kind) { return kind == at::kFloat || kind == at::kBFloat16; }

std::string named(const char* stem, at::ScalarType kind) { return std::string(stem) + (kind == at::kFloat ? "_float" : "_half"); }

CudaScan cuda_scan(const Scan& scan) {
  return {rows(scan.input), rows(scan.step), rows(scan.gate), rows(scan.entry), rows(scan.exit), scan.decay_log.const_data_ptr<float>(),
          scan.skip.const_data_ptr<float>(), scan.step_bias.const_data_ptr<float>(), scan.ends.const_data_ptr<int32_t>(),
          static_cast<int32_t>(scan.channels()), static_cast<int32_t>(scan.state())};
}

KernelShape shape_of(const Scan& scan) { return {scan.sequences(), (scan.channels() + 15) / 16, 256}; }

CudaConv cuda_conv(const Conv& conv, const at::Tensor& weight, const at::Tensor& bias) {
  return {rows(conv.input), weight.const_data_ptr(), bias.const_data_ptr(), conv.positions.const_data_ptr<int64_t>(),
          static_cast<int32_t>(conv.tokens()), static_cast<int32_t>(conv.channels()), static_cast<int32_t>(conv.taps())};
}

}  // namespace

bool scan_cuda_takes(const Scan& scan) {
  const auto kind = scan.input.scalar_type();
  if (!scan.input.is_cuda() || !known(kind) || scan.state() > 16) {
    return false;
  }
  for (const auto* tensor : {&scan.input, &scan.step, &scan.gate, &scan.entry, &scan.exit}) {
    if (!plain_rows(*tensor, kind)) {
      return false;
    }
  }
  const bool whole = scan.decay_log.is_contiguous() && scan.skip.is_contiguous() && scan.step_bias.is_contiguous() && scan.ends.is_contiguous();
  return whole && kernels_ready(scan.input.device(), kSource);
}

at::Tensor scan_cuda(const Scan& scan, at::Tensor* state) {
  auto out = at::empty({scan.tokens(), scan.channels()}, scan.input.options());
  auto given = cuda_scan(scan);
  float* states = state == nullptr ? nullptr : state->mutable_data_ptr<float>();
  void* place = out.mutable_data_ptr();
  void* arguments[] = {&given, &states, &place};
  launch(scan.input.device(), kSource, named("scan", scan.input.scalar_type()).c_str(), shape_of(scan), arguments);
  return out;
}

std::vector<at::Tensor> scan_cuda_backward(const Scan& scan, const at::Tensor& gradient) {
  const auto tokens = scan.tokens(), channels = scan.channels(), width = scan.state(), sequences = scan.sequences();
  const auto kind = scan.input.scalar_type();
  const auto shape = shape_of(scan);
  const auto floats = scan.input.options().dtype(at::kFloat);
  auto out = gradient.to(kind).contiguous();
  auto of_rows = at::empty({3, tokens, channels}, scan.input.options());
  auto selection = at::empty({2, shape.blocks_y, tokens, width}, floats);
  auto decay = at::empty({sequences, channels, width}, floats), sums = at::empty({2, sequences, channels}, floats);
  // The tiles before each sequence: at most one more than its whole ones.
  auto lengths = scan.ends.diff();
  auto counts = at::floor_divide(lengths + (kTile - 1), kTile);
  auto tiles = at::constant_pad_nd(at::cumsum(counts, 0), {1, 0}).to(at::kInt).contiguous();
  auto kept = at::empty({tokens / kTile + sequences, channels, width}, floats);
  auto given = cuda_scan(scan);
  auto* of_row = static_cast<char*>(of_rows.mutable_data_ptr());
  const auto part = tokens * channels * static_cast<int64_t>(of_rows.element_size());
  auto *chosen = selection.mutable_data_ptr<float>(), *sum = sums.mutable_data_ptr<float>();
  CudaGradients gradients{rows(out), of_row, of_row + part, of_row + 2 * part, chosen, chosen + shape.blocks_y * tokens * width,
                          decay.mutable_data_ptr<float>(), sum, sum + sequences * channels, kept.mutable_data_ptr<float>(),
                          tiles.const_data_ptr<int32_t>(), static_cast<int32_t>(tokens)};
  void* arguments[] = {&given, &gradients};
  launch(scan.input.device(), kSource, named("scan_back", kind).c_str(), shape, arguments);
  const auto both = selection.sum(1).to(kind);
  return {of_rows[0], of_rows[1], of_rows[2], both[0], both[1], decay.sum(0), sums[0].sum(0), sums[1].sum(0)};
}

bool conv_cuda_takes(const Conv& conv) {
  const auto kind = conv.input.scalar_type();
  return conv.input.is_cuda() && known(kind) && plain_rows(conv.input, kind) && conv.taps() <= kMostTaps && conv.positions.is_contiguous() &&
         kernels_ready(conv.input.device(), kSource);
}

at::Tensor conv_cuda(const Conv& conv) {
  const auto kind = conv.input.scalar_type();
  const auto weight = conv.weight.to(kind).contiguous(), bias = conv.bias.to(kind).contiguous();
  auto out = at::empty({conv.tokens(), conv.channels()}, conv.input.options());
  auto given = cuda_conv(conv, weight, bias);
  void* place = out.mutable_data_ptr();
  void* arguments[] = {&given, &place};
  launch(conv.input.device(), kSource, named("conv", kind).c_str(), {(conv.tokens() * conv.channels() + 255) / 256, 1, 256}, arguments);
  return out;
}

std::vector<at::Tensor> conv_cuda_backward(const Conv& conv, const at::Tensor& gradient) {
  const auto kind = conv.input.scalar_type();
  const auto tokens = conv.tokens(), channels = conv.channels(), taps = conv.taps(), blocks = (tokens + kSpan - 1) / kSpan;
  const auto weight = conv.weight.to(kind).contiguous(), bias = conv.bias.to(kind).contiguous(), out = gradient.to(kind).contiguous();
  auto to_input = at::empty({tokens, channels}, conv.input.options());
  auto parts = at::empty({blocks, channels, taps + 1}, conv.input.options().dtype(at::kFloat));
  auto given = cuda_conv(conv, weight, bias);
  auto slope = rows(out);
  void* place = to_input.mutable_data_ptr();
  float* part = parts.mutable_data_ptr<float>();
  auto span = static_cast<int32_t>(kSpan);
  void* for_input[] = {&given, &slope, &place};
  launch(conv.input.device(), kSource, named("conv_input", kind).c_str(), {(tokens * channels + 255) / 256, 1, 256}, for_input);
  void* for_weight[] = {&given, &slope, &part, &span};
  launch(conv.input.device(), kSource, named("conv_weight", kind).c_str(), {blocks, (channels + 31) / 32, 256}, for_weight);
  const auto sums = parts.sum(0);
  return {to_input, sums.narrow(1, 0, taps).unsqueeze(1).to(conv.weight.scalar_type()), sums.select(1, taps).to(conv.bias.scalar_type())};
}

}  // namespace qapipe
