// Where the time of a whole training step goes: operation by operation its share of the step, its rate and
// how that compares with what this machine can do, measured in the same run. The operations are timed inside
// the step: the linker puts the functions below in front of the kernels (bench/CMakeLists.txt lists them).
//
//   training_step_bench [PRESET] [BATCH] [CONTEXT] [THREADS] [STEPS]      transformer-130m 4 256 1 4
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "brood/base/random.h"
#include "brood/base/threads.h"
#include "brood/kernels/activation.h"
#include "brood/kernels/attention.h"
#include "brood/kernels/loss.h"
#include "brood/kernels/machine.h"
#include "brood/kernels/matmul.h"
#include "brood/kernels/norm.h"
#include "brood/kernels/optimiser.h"
#include "brood/learn/trainer.h"
#include "brood/model/presets.h"

namespace brood {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Entry {
  const char* name;
  double seconds = 0, flops = 0, bytes = 0;
};

enum Kind { kForward, kInput, kWeight, kAttention, kNorm, kGate, kLoss, kNormOfAll, kUpdate, kKinds };
Entry entries[kKinds] = {{"products, forward  x Wᵀ"},
                         {"products, backward dy W"},
                         {"products, backward dyᵀ x"},
                         {"attention"},
                         {"norms"},
                         {"SwiGLU"},
                         {"cross entropy"},
                         {"norm of all gradients"},
                         {"AdamW"}};

template <class Run>
void timed(Kind kind, double flops, double floats, Run&& run) {
  const double begin = now();
  run();
  entries[kind].seconds += now() - begin;
  entries[kind].flops += flops;
  entries[kind].bytes += 4 * floats;
}

}  // namespace

namespace kernels {

using Matmul = void(Order, Order, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
                    bool, float*, int64_t);

// Declares the kernel and what is called instead of it.
#define BROOD_TIMED(type, name, symbol)   \
  type real_##name asm("__real_" symbol); \
  type timed_##name asm("__wrap_" symbol)

BROOD_TIMED(Matmul, matmul, "_ZN5brood7kernels6matmulENS0_5OrderES1_lllPKflS3_lbPfl");
BROOD_TIMED(decltype(attention_forward), attention_forward,
            "_ZN5brood7kernels17attention_forwardERKNS0_9AttentionEPfS4_");
BROOD_TIMED(decltype(attention_backward), attention_backward,
            "_ZN5brood7kernels18attention_backwardERKNS0_9AttentionEPKfS5_S5_PflS6_S6_S6_");
BROOD_TIMED(decltype(rms_norm_forward), rms_norm_forward,
            "_ZN5brood7kernels16rms_norm_forwardEllPKfS2_fPfS3_");
BROOD_TIMED(decltype(rms_norm_backward), rms_norm_backward,
            "_ZN5brood7kernels17rms_norm_backwardEllPKfS2_S2_S2_PfS3_");
BROOD_TIMED(decltype(swiglu), swiglu, "_ZN5brood7kernels6swigluElPKfS2_Pf");
BROOD_TIMED(decltype(swiglu_backward), swiglu_backward, "_ZN5brood7kernels15swiglu_backwardElPKfS2_S2_PfS3_");
BROOD_TIMED(decltype(cross_entropy_forward), cross_entropy_forward,
            "_ZN5brood7kernels21cross_entropy_forwardEllPKfPKiPfS5_");
BROOD_TIMED(decltype(cross_entropy_backward), cross_entropy_backward,
            "_ZN5brood7kernels22cross_entropy_backwardEllPKfPKiS2_S2_Pf");
BROOD_TIMED(decltype(squared_norm), squared_norm, "_ZN5brood7kernels12squared_normElPKf");
BROOD_TIMED(decltype(adamw), adamw, "_ZN5brood7kernels5adamwElRKNS0_5AdamWEPKffPfS6_S6_PNS_4Bf16E");
#undef BROOD_TIMED

void timed_matmul(Order a, Order b, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
                  const float* B, int64_t ldb, bool accumulate, float* C, int64_t ldc) {
  const Kind kind = b == Order::kTransposed ? kForward : a == Order::kPlain ? kInput : kWeight;
  timed(kind, 2.0 * double(M) * double(N) * double(K), 0,
        [&] { real_matmul(a, b, M, N, K, A, lda, B, ldb, accumulate, C, ldc); });
}

// A query sees half of the chunk on average: two products forward, five backward.
double attention_flops(const Attention& a, double products) {
  return products * double(a.B * a.heads * a.head_dim) * double(a.T) * double(a.T + 1);
}
void timed_attention_forward(const Attention& a, float* y, float* log_sum) {
  timed(kAttention, attention_flops(a, 2), 0, [&] { real_attention_forward(a, y, log_sum); });
}
void timed_attention_backward(const Attention& a, const float* y, const float* log_sum, const float* dy,
                              float* dq, int64_t dq_stride, float* dkeys, float* dvalues, float* scratch) {
  timed(kAttention, attention_flops(a, 5), 0,
        [&] { real_attention_backward(a, y, log_sum, dy, dq, dq_stride, dkeys, dvalues, scratch); });
}

void timed_rms_norm_forward(int64_t rows, int64_t cols, const float* x, const float* weight, float eps,
                            float* y, float* rstd) {
  timed(kNorm, 0, 2.0 * double(rows * cols),
        [&] { real_rms_norm_forward(rows, cols, x, weight, eps, y, rstd); });
}
void timed_rms_norm_backward(int64_t rows, int64_t cols, const float* x, const float* weight,
                             const float* rstd, const float* dy, float* dx, float* dweight) {
  timed(kNorm, 0, 4.0 * double(rows * cols),
        [&] { real_rms_norm_backward(rows, cols, x, weight, rstd, dy, dx, dweight); });
}

void timed_swiglu(int64_t n, const float* gate, const float* up, float* y) {
  timed(kGate, 0, 3.0 * double(n), [&] { real_swiglu(n, gate, up, y); });
}
void timed_swiglu_backward(int64_t n, const float* gate, const float* up, const float* dy, float* dgate,
                           float* dup) {
  timed(kGate, 0, 7.0 * double(n), [&] { real_swiglu_backward(n, gate, up, dy, dgate, dup); });
}

void timed_cross_entropy_forward(int64_t rows, int64_t classes, const float* logits, const int32_t* targets,
                                 float* loss, float* log_sum) {
  timed(kLoss, 0, double(rows * classes),
        [&] { real_cross_entropy_forward(rows, classes, logits, targets, loss, log_sum); });
}
void timed_cross_entropy_backward(int64_t rows, int64_t classes, const float* logits, const int32_t* targets,
                                  const float* log_sum, const float* scale, float* dlogits) {
  timed(kLoss, 0, 2.0 * double(rows * classes),
        [&] { real_cross_entropy_backward(rows, classes, logits, targets, log_sum, scale, dlogits); });
}

double timed_squared_norm(int64_t n, const float* x) {
  double squares = 0;
  timed(kNormOfAll, 0, double(n), [&] { squares = real_squared_norm(n, x); });
  return squares;
}
void timed_adamw(int64_t n, const AdamW& step, const float* g, float grad_scale, float* w, float* m, float* v,
                 Bf16* copy) {
  timed(kUpdate, 0, 7.0 * double(n), [&] { real_adamw(n, step, g, grad_scale, w, m, v, copy); });
}

}  // namespace kernels

namespace {

void print(const char* name, double seconds, double all, double work, const char* unit, double limit) {
  fmt::print("{:<28} {:8.1f} ms {:5.1f} %", name, 1e3 * seconds, 100 * seconds / all);
  if (work > 0)
    fmt::print(" {:8.1f} {} {:4.0f} % of {:.0f}", work / seconds / 1e9, unit, 100 * work / seconds / limit,
               limit / 1e9);
  fmt::print("\n");
}

int run(int count, char** words) {
  const auto number = [&](int i, int64_t otherwise) { return count > i ? std::atoll(words[i]) : otherwise; };
  const std::string name = count > 1 ? words[1] : "transformer-130m";
  TrainerSettings settings;
  settings.batch = number(2, 4);
  settings.context = number(3, 256);
  ThreadPool::instance().resize(int(number(4, 1)));
  const int64_t steps = number(5, 4);

  const Preset* preset = find_preset(name);
  if (preset == nullptr) fail("no preset is called {}", name);
  Model model(nlohmann::json::parse(preset->json));
  std::vector<uint8_t> data(size_t(1) << 20);
  Random random(1);
  for (uint8_t& byte : data) byte = uint8_t(random.below(256));
  Trainer trainer(model, data, settings);
  for (int i = 0; i < 2; ++i) trainer.step();  // memory is handed out

  for (Entry& entry : entries) entry.seconds = entry.flops = entry.bytes = 0;
  double fastest = 1e9;
  const double begin = now();
  for (int64_t i = 0; i < steps; ++i) {
    const double start = now();
    trainer.step();
    fastest = std::min(fastest, now() - start);
  }
  const double all = (now() - begin) / double(steps);
  const double flops = kernels::measure_f32_flops(), bandwidth = kernels::measure_read_bandwidth();

  Entry products{"all products"};
  double rest = all;
  for (int kind = 0; kind < kKinds; ++kind) {
    Entry& e = entries[kind];
    for (double* x : {&e.seconds, &e.flops, &e.bytes}) *x /= double(steps);
    rest -= e.seconds;
    if (kind <= kWeight) products.seconds += e.seconds, products.flops += e.flops;
    if (e.seconds == 0) continue;
    e.flops > 0 ? print(e.name, e.seconds, all, e.flops, "GFLOP/s", flops)
                : print(e.name, e.seconds, all, e.bytes, "GB/s", bandwidth);
  }
  print("everything else", rest, all, 0, "", 1);
  print("all products", products.seconds, all, products.flops, "GFLOP/s", flops);
  print("the step", all, all, products.flops, "GFLOP/s", flops);
  fmt::print("{:.1f} tokens/s; the fastest of {} steps took {:.1f} ms\n",
             double(settings.batch * settings.context) / all, steps, 1e3 * fastest);
  return 0;
}

}  // namespace
}  // namespace brood

int main(int count, char** words) {
  try {
    return brood::run(count, words);
  } catch (const std::exception& problem) {
    fmt::print(stderr, "training_step_bench: {}\n", problem.what());
    return 2;
  }
}
