// A product with a matrix that is made anew, out of fewer bits, whenever it is needed: on the way back as well as on the way there.
#include "guard.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <string>

namespace qapipe {
namespace {

// What makes the matrix: a state of the caller's, and what to do with it. Null, or a message that is to be freed.
using Restore = char* (*)(const void* state, at::Tensor** out);
using Release = void (*)(const void* state);

class Source : public torch::CustomClassHolder {
 public:
  Source(const void* state, Restore restore, Release release) : state_(state), restore_(restore), release_(release) {}
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  ~Source() override { release_(state_); }

  at::Tensor restored() const {
    at::Tensor* out = nullptr;
    if (char* message = restore_(state_, &out)) {
      const std::string text(message);
      free(message);
      TORCH_CHECK(false, text);
    }
    at::Tensor matrix = std::move(*out);
    delete out;
    return matrix;
  }

 private:
  const void* state_;
  Restore restore_;
  Release release_;
};

class RestoredProduct : public torch::autograd::Function<RestoredProduct> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& states, const c10::intrusive_ptr<Source>& source) {
    context->saved_data["source"] = at::IValue::make_capsule(source);
    return at::linear(states, source->restored());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto source = c10::static_intrusive_pointer_cast<Source>(context->saved_data["source"].toCapsule());
    return {at::matmul(gradients[0], source->restored()), at::Tensor()};
  }
};

}  // namespace
}  // namespace qapipe

// states [tokens, in]; the matrix that `restore` gives is [out, in]. `release` is called once, when neither the product nor its gradient needs
// the state any more, on whatever thread.
QAPIPE_API char* qapipe_restored_product(at::Tensor** out, const at::Tensor* states, const void* state, qapipe::Restore restore,
                                         qapipe::Release release) {
  return qapipe::guarded([&] {
    auto source = c10::make_intrusive<qapipe::Source>(state, restore, release);
    *out = new at::Tensor(qapipe::RestoredProduct::apply(*states, source));
  });
}
