// The yardstick of live learning: one step of a small net written by hand, with nothing between the loops.
//
// One byte in, the next byte's probabilities out, the whole net changed by SGD: an embedding, 6 residual
// layers (128 → 512, ReLU, 512 → 128), a head, softmax cross entropy; 851,968 parameters, no biases, T = 1.
// The backward pass and the update are one pass over each matrix: row i of W gives dx_i = W_i·dy and then
// becomes W_i − lr x_i dy, so the gradient of a matrix is never stored. Plain loops for the compiler to
// vectorise; this file alone is built for the machine it runs on (bench/CMakeLists.txt), as somebody who
// wrote one such program for one machine would do.
//
// What bounds it is where 3.4 MB of weights lie. A level-2 cache of 2 MB keeps about half of them from one
// pass to the next and the rest comes from level 3; two threads that own half of the rows each keep them all.
//
// bench/peers/torch_online.py measures the same net in PyTorch.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr int kWidth = 128, kHidden = 512, kLayers = 6, kVocab = 256;
constexpr float kLearningRate = 1e-3f;

// Matrices are stored by input: row i holds the weights from input i to every output.
struct Net {
  std::vector<float> embedding, head;
  std::array<std::vector<float>, kLayers> up, down;
};

Net random_net() {
  std::mt19937 random(0);
  auto matrix = [&](int inputs, int outputs) {
    std::normal_distribution<float> normal(0.0f, 0.5f / std::sqrt(static_cast<float>(inputs)));
    std::vector<float> weights(static_cast<size_t>(inputs) * outputs);
    for (float& w : weights) w = normal(random);
    return weights;
  };
  Net net{matrix(kVocab, kWidth), matrix(kWidth, kVocab), {}, {}};
  for (int l = 0; l < kLayers; ++l)
    net.up[l] = matrix(kWidth, kHidden), net.down[l] = matrix(kHidden, kWidth);
  return net;
}

// y += Σ_i x_i W_i over inputs [begin, end).
template <int kOutputs>
void add_product(const float* weights, const float* x, int begin, int end, float* y) {
  float sum[kOutputs];
  std::memcpy(sum, y, sizeof(sum));
  for (int i = begin; i < end; ++i) {
    const float* row = weights + static_cast<size_t>(i) * kOutputs;
    for (int o = 0; o < kOutputs; ++o) sum[o] += x[i] * row[o];
  }
  std::memcpy(y, sum, sizeof(sum));
}

// dx_i = W_i·dy, then W_i −= lr x_i dy, for inputs [begin, end).
template <int kOutputs>
void backward_and_update(float* weights, const float* x, const float* dy, int begin, int end, float* dx) {
  for (int i = begin; i < end; ++i) {
    float* row = weights + static_cast<size_t>(i) * kOutputs;
    const float change = kLearningRate * x[i];
    float lanes[16] = {};  // separate sums, because the compiler may not reorder one
    for (int o = 0; o < kOutputs; o += 16) {
      for (int lane = 0; lane < 16; ++lane) {
        const float w = row[o + lane], d = dy[o + lane];
        lanes[lane] += w * d;
        row[o + lane] = w - change * d;
      }
    }
    float dot = 0.0f;
    for (float lane : lanes) dot += lane;
    dx[i] = dot;
  }
}

// logits → dlogits in place; returns the cost in nats.
float softmax_cross_entropy(float* logits, int target) {
  const float highest = *std::max_element(logits, logits + kVocab);
  float sum = 0.0f;
  for (int v = 0; v < kVocab; ++v) sum += std::exp(logits[v] - highest);
  const float cost = highest + std::log(sum) - logits[target];
  for (int v = 0; v < kVocab; ++v) logits[v] = std::exp(logits[v] - highest) / sum;
  logits[target] -= 1.0f;
  return cost;
}

struct Activations {
  alignas(64) std::array<std::array<float, kWidth>, kLayers + 1> x;
  alignas(64) std::array<std::array<float, kHidden>, kLayers> hidden;
};

float step(Net& net, int byte, int target) {
  Activations a;
  std::copy_n(net.embedding.data() + byte * kWidth, kWidth, a.x[0].data());
  for (int l = 0; l < kLayers; ++l) {
    a.hidden[l].fill(0.0f);
    add_product<kHidden>(net.up[l].data(), a.x[l].data(), 0, kWidth, a.hidden[l].data());
    for (float& h : a.hidden[l]) h = std::max(h, 0.0f);
    a.x[l + 1] = a.x[l];
    add_product<kWidth>(net.down[l].data(), a.hidden[l].data(), 0, kHidden, a.x[l + 1].data());
  }
  alignas(64) float logits[kVocab] = {};
  add_product<kVocab>(net.head.data(), a.x[kLayers].data(), 0, kWidth, logits);
  const float cost = softmax_cross_entropy(logits, target);

  alignas(64) float dx[kWidth], dhidden[kHidden], through[kWidth];
  backward_and_update<kVocab>(net.head.data(), a.x[kLayers].data(), logits, 0, kWidth, dx);
  for (int l = kLayers - 1; l >= 0; --l) {
    backward_and_update<kWidth>(net.down[l].data(), a.hidden[l].data(), dx, 0, kHidden, dhidden);
    for (int h = 0; h < kHidden; ++h) dhidden[h] = a.hidden[l][h] > 0.0f ? dhidden[h] : 0.0f;
    backward_and_update<kHidden>(net.up[l].data(), a.x[l].data(), dhidden, 0, kWidth, through);
    for (int d = 0; d < kWidth; ++d) dx[d] += through[d];
  }
  for (int d = 0; d < kWidth; ++d) net.embedding[byte * kWidth + d] -= kLearningRate * dx[d];
  return cost;
}

void BM_OnlineByHand(benchmark::State& state) {
  Net net = random_net();
  int byte = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(step(net, byte, (byte + 1) % kVocab));
    byte = (byte + 1) % kVocab;
  }
}
BENCHMARK(BM_OnlineByHand)->Name("online_by_hand/one_thread")->Unit(benchmark::kMicrosecond);

// Two threads, each the owner of half of the inputs of every matrix: their rows stay in its own level-2 cache
// forward, backward and in the update. Forward each leaves a partial sum that both add up after a barrier;
// backward each has the gradient of its own inputs and reads the other's after a barrier.
class SpinBarrier {
 public:
  void wait() {
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins > kSpins) std::this_thread::yield();  // somebody else has the other one's core
    }
  }

 private:
  static constexpr int kSpins =
      10000;  // some 100 µs, longer than the other thread is ever late on a quiet machine
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> round_{0};
};

struct Shared {
  SpinBarrier barrier;
  // Two sets used in turn, so that one barrier per exchange is enough: nobody overwrites what is still being
  // read.
  alignas(64) float partial[2][2][kHidden];
  alignas(64) float gradient[2][kHidden];
};

// The sum of both halves' products, known to both threads.
template <int kInputs, int kOutputs>
void product_of_two(Shared& shared, int& turn, int me, const float* weights, const float* x, float* y) {
  float* mine = shared.partial[turn][me];
  std::fill_n(mine, kOutputs, 0.0f);
  add_product<kOutputs>(weights, x, me * kInputs / 2, (me + 1) * kInputs / 2, mine);
  shared.barrier.wait();
  for (int o = 0; o < kOutputs; ++o) y[o] += shared.partial[turn][0][o] + shared.partial[turn][1][o];
  turn ^= 1;
}

template <int kInputs, int kOutputs>
void backward_of_two(Shared& shared, int& turn, int me, float* weights, const float* x, const float* dy,
                     float* dx) {
  backward_and_update<kOutputs>(weights, x, dy, me * kInputs / 2, (me + 1) * kInputs / 2,
                                shared.gradient[turn]);
  shared.barrier.wait();
  std::copy_n(shared.gradient[turn], kInputs, dx);
  turn ^= 1;
}

float step_of_two(Net& net, Shared& shared, int me, int byte, int target) {
  Activations a;
  int turn = 0;
  std::copy_n(net.embedding.data() + byte * kWidth, kWidth, a.x[0].data());
  for (int l = 0; l < kLayers; ++l) {
    a.hidden[l].fill(0.0f);
    product_of_two<kWidth, kHidden>(shared, turn, me, net.up[l].data(), a.x[l].data(), a.hidden[l].data());
    for (float& h : a.hidden[l]) h = std::max(h, 0.0f);
    a.x[l + 1] = a.x[l];
    product_of_two<kHidden, kWidth>(shared, turn, me, net.down[l].data(), a.hidden[l].data(),
                                    a.x[l + 1].data());
  }
  alignas(64) float logits[kVocab] = {};
  product_of_two<kWidth, kVocab>(shared, turn, me, net.head.data(), a.x[kLayers].data(), logits);
  const float cost = softmax_cross_entropy(logits, target);

  alignas(64) float dx[kWidth], dhidden[kHidden], through[kWidth];
  backward_of_two<kWidth, kVocab>(shared, turn, me, net.head.data(), a.x[kLayers].data(), logits, dx);
  for (int l = kLayers - 1; l >= 0; --l) {
    backward_of_two<kHidden, kWidth>(shared, turn, me, net.down[l].data(), a.hidden[l].data(), dx, dhidden);
    for (int h = 0; h < kHidden; ++h) dhidden[h] = a.hidden[l][h] > 0.0f ? dhidden[h] : 0.0f;
    backward_of_two<kWidth, kHidden>(shared, turn, me, net.up[l].data(), a.x[l].data(), dhidden, through);
    for (int d = 0; d < kWidth; ++d) dx[d] += through[d];
  }
  if (me == 0) {
    for (int d = 0; d < kWidth; ++d) net.embedding[byte * kWidth + d] -= kLearningRate * dx[d];
  }
  shared.barrier.wait();
  return cost;
}

void BM_OnlineByHandOfTwo(benchmark::State& state) {
  Net net = random_net();
  Shared shared;
  std::atomic<bool> going{true};
  // Both threads see the same bytes; the barrier that opens a step also tells the second one whether there is
  // one.
  std::thread second([&] {
    for (int byte = 0;; byte = (byte + 1) % kVocab) {
      shared.barrier.wait();
      if (!going.load(std::memory_order_relaxed)) return;
      step_of_two(net, shared, 1, byte, (byte + 1) % kVocab);
    }
  });
  int byte = 0;
  for (auto _ : state) {
    shared.barrier.wait();
    benchmark::DoNotOptimize(step_of_two(net, shared, 0, byte, (byte + 1) % kVocab));
    byte = (byte + 1) % kVocab;
  }
  going.store(false, std::memory_order_relaxed);
  shared.barrier.wait();
  second.join();
}
BENCHMARK(BM_OnlineByHandOfTwo)
    ->Name("online_by_hand/two_threads")
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
