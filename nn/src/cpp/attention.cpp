// Variable-length flash attention (Dao 2023, arXiv 2307.08691), with the gradient that libtorch's autograd defines for it.
#include "guard.h"

#include <ATen/ops/_flash_attention_forward.h>

#include <cmath>

// query, key, value: [tokens, heads, head_dim] in f16 or bf16 on a CUDA device, last dimension contiguous.
// ends: int32 [sequences + 1], where each sequence begins, and the total; of the queries and of the keys. longest: tokens of the longest
// sequence, known to the host. scale: what the scores are multiplied with; NaN for 1/sqrt(head_dim).
QAPIPE_API char* qapipe_flash_attention(at::Tensor** out, const at::Tensor* query, const at::Tensor* key, const at::Tensor* value,
                                        const at::Tensor* query_ends, const at::Tensor* key_ends, int64_t longest_query,
                                        int64_t longest_key, double dropout, double scale) {
  return qapipe::guarded([&] {
    auto given = std::isnan(scale) ? std::nullopt : std::optional<double>(scale);
    auto result = at::_flash_attention_forward(*query, *key, *value, *query_ends, *key_ends, longest_query, longest_key, dropout,
                                               /*is_causal=*/false, /*return_debug_mask=*/false, given);
    *out = new at::Tensor(std::get<0>(std::move(result)));
  });
}
