// What adapters of low rank add to a product: all of a matrix's in one step, and in one step back.
#include "guard.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace qapipe {
namespace {

// B of an adapter, and where in the product and in what goes into it its part lies.
struct Up {
  at::Tensor weight;
  int64_t row;
  int64_t rank;
  double scale;

  at::Tensor rows(const at::Tensor& of) const { return of.narrow(1, row, weight.size(0)); }
  at::Tensor ranks(const at::Tensor& of) const { return of.narrow(1, rank, weight.size(1)); }
};

std::vector<Up> ups(at::TensorList weights, const std::vector<int64_t>& rows, const std::vector<double>& scales) {
  std::vector<Up> all;
  int64_t rank = 0;
  for (std::size_t up = 0; up < weights.size(); ++up) {
    all.push_back({weights[up], rows[up], rank, scales[up]});
    rank += weights[up].size(1);
  }
  return all;
}

// out = scale * one two, in place, where out may be a part of a larger tensor.
void product_into(at::Tensor out, const at::Tensor& one, const at::Tensor& two, double scale) {
  at::addmm_out(out, out, one, two, 0, scale);
}

class LowRank : public torch::autograd::Function<LowRank> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& product, const at::Tensor& seen, at::TensorList weights,
                            const std::vector<int64_t>& rows, const std::vector<double>& scales) {
    torch::autograd::variable_list saved(weights.begin(), weights.end());
    saved.push_back(seen);
    context->save_for_backward(std::move(saved));
    context->saved_data["rows"] = rows;
    context->saved_data["scales"] = scales;
    const auto all = ups(weights, rows, scales);
    if (all.size() == 1 && weights[0].size(0) == product.size(1)) {
      return at::addmm(product, seen, weights[0].t(), 1, scales[0]);
    }
    auto sum = product.clone(at::MemoryFormat::Contiguous);
    for (const auto& up : all) {
      up.rows(sum).addmm_(up.ranks(seen), up.weight.t(), 1, up.scale);
    }
    return sum;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    auto saved = context->get_saved_variables();
    const auto seen = saved.back();
    saved.pop_back();
    const auto given = gradients[0].contiguous();
    const auto all = ups(saved, context->saved_data["rows"].toIntVector(), context->saved_data["scales"].toDoubleVector());
    torch::autograd::variable_list found(4 + all.size());
    found[0] = given;
    if (context->needs_input_grad(1)) {
      found[1] = at::empty_like(seen, at::MemoryFormat::Contiguous);
    }
    for (std::size_t at = 0; at < all.size(); ++at) {
      const auto& up = all[at];
      if (found[1].defined()) {
        product_into(up.ranks(found[1]), up.rows(given), up.weight, up.scale);
      }
      if (context->needs_input_grad(2 + at)) {
        found[2 + at] = at::empty_like(up.weight, at::MemoryFormat::Contiguous);
        product_into(found[2 + at], up.rows(given).t(), up.ranks(seen), up.scale);
      }
    }
    return found;
  }
};

void check(const at::Tensor& product, const at::Tensor& seen, const std::vector<Up>& all) {
  TORCH_CHECK(product.dim() == 2 && seen.dim() == 2 && product.size(0) == seen.size(0), "a product ", product.sizes(), " and ", seen.sizes(),
              " numbers of low rank are not of the same tokens");
  for (const auto& up : all) {
    TORCH_CHECK(up.weight.dim() == 2 && up.row >= 0 && up.row + up.weight.size(0) <= product.size(1) &&
                    up.rank + up.weight.size(1) <= seen.size(1),
                "an adapter ", up.weight.sizes(), " from row ", up.row, " on does not fit a product ", product.sizes());
  }
}

}  // namespace
}  // namespace qapipe

// product [tokens, out] and what each B adds to it, scaled: weights [rows, rank], of the rows of the matrix from rows on, which do not overlap; seen
// [tokens, ranks] are the numbers that go into all of them, in their order.
QAPIPE_API char* qapipe_low_rank(at::Tensor** out, const at::Tensor* product, const at::Tensor* seen, at::Tensor* const* weights,
                                 const int64_t* rows, const double* scales, std::size_t count) {
  return qapipe::guarded([&] {
    const auto parts = qapipe::listed(weights, count);
    const std::vector<int64_t> places(rows, rows + count);
    const std::vector<double> factors(scales, scales + count);
    qapipe::check(*product, *seen, qapipe::ups(parts, places, factors));
    *out = new at::Tensor(qapipe::LowRank::apply(*product, *seen, at::TensorList(parts), places, factors));
  });
}
