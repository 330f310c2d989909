// Variable-length flash attention (Dao 2023, arXiv 2307.08691), with the gradient that libtorch's autograd defines for it.
#include "guard.h"

#include <ATen/ops/_flash_attention_forward.h>

// query, key, value: [tokens, heads, head_dim] in f16 or bf16 on a CUDA device, last dimension contiguous.
// ends: int32 [sequences + 1], where each sequence begins, and the total. longest: tokens of the longest sequence, known to the host.
QAPIPE_API char* qapipe_flash_attention(at::Tensor** out, const at::Tensor* query, const at::Tensor* key, const at::Tensor* value,
                                        const at::Tensor* ends, int64_t longest, double dropout) {
  return qapipe::guarded([&] {
    auto result = at::_flash_attention_forward(*query, *key, *value, *ends, *ends, longest, longest, dropout,
                                               /*is_causal=*/false, /*return_debug_mask=*/false);
    *out = new at::Tensor(std::get<0>(std::move(result)));
  });
}
