// The table of where matrices lie: of each seven numbers, then of each row three, then of each chunk one.
#include "places.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <vector>

namespace qapipe {
namespace {

constexpr int64_t kChunk = 16384;  // as in choose_source.h
constexpr int64_t kFields = 7;     // of a matrix
constexpr int64_t kSpan = 3;       // of a row

int64_t size_of(const Pair& pair) { return pair.height * pair.from->size(1); }

int64_t chunks_of(const Pair& pair) { return (size_of(pair) + kChunk - 1) / kChunk; }

// Where a row of a tensor begins.
int64_t place_of(const at::Tensor& tensor, int64_t row) {
  const auto bytes = static_cast<int64_t>(tensor.element_size());
  return reinterpret_cast<int64_t>(tensor.const_data_ptr()) + row * tensor.size(1) * bytes;
}

bool holds(const at::Tensor& tensor, int64_t row, int64_t height) {
  return tensor.dim() == 2 && tensor.is_contiguous() && row >= 0 && height > 0 && tensor.size(1) > 0 && row + height <= tensor.size(0);
}

// Whether four numbers can be read and written at once wherever every fourth begins.
bool aligned(const Pair& pair) {
  const auto lies = [](const at::Tensor& tensor, int64_t row) {
    return place_of(tensor, row) % static_cast<int64_t>(4 * tensor.element_size()) == 0;
  };
  return lies(*pair.from, pair.from_row) && lies(*pair.to, pair.to_row);
}

std::vector<int64_t> table_of(const Pair* pairs, int64_t count, bool together) {
  std::vector<int64_t> matrices, rows, chunks;
  int64_t first = 0, total = 0;
  for (int64_t at = 0; at < count; ++at) {
    const Pair& pair = pairs[at];
    const int64_t size = size_of(pair), end = first + chunks_of(pair);
    const int64_t from = place_of(*pair.from, pair.from_row), to = place_of(*pair.to, pair.to_row);
    matrices.insert(matrices.end(), {from, to, size, first, together ? 0 : at, pair.group, aligned(pair)});
    rows.insert(rows.end(), {first, end, size});
    chunks.insert(chunks.end(), end - first, at);
    first = end;
    total += size;
  }
  if (together) {
    rows = {0, first, total};
  }
  matrices.insert(matrices.end(), rows.begin(), rows.end());
  matrices.insert(matrices.end(), chunks.begin(), chunks.end());
  return matrices;
}

bool same(const std::vector<int64_t>& table, const Kept& kept, const at::Device& device) {
  const auto size = static_cast<int64_t>(table.size());
  return kept.host->defined() && kept.device->defined() && kept.device->device() == device && kept.host->numel() == size &&
         std::memcmp(kept.host->const_data_ptr<int64_t>(), table.data(), table.size() * sizeof(int64_t)) == 0;
}

}  // namespace

bool fits(const Pair* pairs, int64_t count, at::ScalarType changed) {
  int64_t total = 0;
  for (int64_t at = 0; at < count; ++at) {
    const Pair& pair = pairs[at];
    const auto &from = *pair.from, &to = *pair.to;
    const bool there = from.is_cuda() && from.device() == pairs[0].from->device() && to.device() == from.device();
    const bool lies = there && holds(from, pair.from_row, pair.height) && holds(to, pair.to_row, pair.height) && from.size(1) == to.size(1);
    if (!lies || from.scalar_type() != pairs[0].from->scalar_type() || to.scalar_type() != changed) {
      return false;
    }
    total += size_of(pair);
  }
  return count > 0 && total <= INT32_MAX;
}

Table told(const Pair* pairs, int64_t count, bool together, const Kept& kept) {
  const auto table = table_of(pairs, count, together);
  const auto device = pairs[0].from->device();
  if (!same(table, kept, device)) {
    at::Tensor host = at::empty({static_cast<int64_t>(table.size())}, at::kLong);
    std::memcpy(host.mutable_data_ptr<int64_t>(), table.data(), table.size() * sizeof(int64_t));
    *kept.device = host.to(device);
    *kept.host = std::move(host);
  }
  const int64_t row_count = together ? 1 : count, before = count * kFields + row_count * kSpan;
  const int64_t* matrices = kept.device->const_data_ptr<int64_t>();
  return {{matrices, matrices + count * kFields, matrices + before, count, row_count}, static_cast<int64_t>(table.size()) - before};
}

}  // namespace qapipe
