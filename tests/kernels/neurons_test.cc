// Kernels of neurons against plain loops in double precision, on every SIMD target.
#include "brood/kernels/neurons.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "brood/base/random.h"
#include "tests/kernels/targets.h"

namespace brood::kernels {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

std::vector<float> normal(Random& random, int64_t n) {
  std::vector<float> x(size_t(n + kListSlack));
  random.fill_normal(x.data(), n, 1.0f);
  return x;
}

// Lists of steps over the neurons [base, base + width), each awake with probability `share`.
struct Lists {
  std::vector<uint32_t> offset{0}, index;
  int64_t steps, base, width;
  Lists(Random& random, int64_t steps_, int64_t base_, int64_t width_, double share)
      : steps(steps_), base(base_), width(width_) {
    for (int64_t r = 0; r < steps; ++r) {
      for (int64_t j = 0; j < width; ++j)
        if (random.uniform() < share) index.push_back(uint32_t(base + j));
      offset.push_back(uint32_t(index.size()));
    }
    index.resize(index.size() + kListSlack, 0xffffffffu);  // must never be followed
  }
  int64_t entries() const { return offset.back(); }
  RowLists view(bool more = false) const { return {steps, offset.data(), index.data(), base, width, more}; }
};

// |got − expected| within the rounding of a sum of `terms` products whose absolute sum is `magnitude`.
void expect_sum(float got, double expected, double magnitude, int64_t terms) {
  ASSERT_LE(std::abs(double(got) - expected), kEpsilon * (double(terms) + 1) * magnitude + 1e-30);
}

struct RowsCase {
  int64_t steps, base, width, cols;
  double share;
};

std::vector<RowsCase> rows_cases() {
  std::vector<RowsCase> cases;
  for (int64_t steps : {1, 2, 5})
    for (int64_t width : {1, 2, 7})
      for (int64_t cols = 1; cols <= 20; ++cols) cases.push_back({steps, 3, width, cols, 0.5});
  // Whole blocks, copies of tiles, wide rows, empty lists, all awake.
  for (const double share : {0.0, 0.1, 1.0})
    for (const int64_t cols : {64, 256, 300}) {
      cases.push_back({40, 64, 64, cols, share});
      cases.push_back({1, 128, 500, cols, share});
    }
  return cases;
}

TEST(NeuronRows, AccumulateDotScatter) {
  for_every_target([] {
    Random random(1);
    for (const RowsCase& c : rows_cases()) {
      SCOPED_TRACE(::testing::Message() << c.steps << " steps, " << c.width << " x " << c.cols);
      const Lists lists(random, c.steps, c.base, c.width, c.share);
      const int64_t stride = c.cols + 3, n = c.base + c.width;
      const std::vector<float> matrix = normal(random, n * stride), steps = normal(random, c.steps * stride),
                               value = normal(random, lists.entries());
      for (const bool accumulate : {false, true}) {
        std::vector<float> dots = value;
        dot_rows(lists.view(true), matrix.data(), stride, c.cols, steps.data(), stride, accumulate,
                 dots.data());
        for (int64_t r = 0; r < c.steps; ++r) {
          for (uint32_t k = lists.offset[size_t(r)]; k < lists.offset[size_t(r) + 1]; ++k) {
            double sum = accumulate ? value[k] : 0, magnitude = std::abs(sum);
            for (int64_t i = 0; i < c.cols; ++i) {
              const double term =
                  double(steps[size_t(r * stride + i)]) * matrix[lists.index[k] * size_t(stride) + size_t(i)];
              sum += term;
              magnitude += std::abs(term);
            }
            expect_sum(dots[k], sum, magnitude, c.cols);
          }
        }
      }
      std::vector<float> sums = normal(random, c.steps * stride), rows = matrix;
      const std::vector<float> before = sums;
      accumulate_rows(lists.view(), value.data(), matrix.data(), stride, c.cols, sums.data(), stride);
      scatter_rows(lists.view(true), value.data(), steps.data(), stride, c.cols, rows.data(), stride);
      std::vector<double> exact(before.begin(), before.end()), size(before.size());
      std::vector<double> exact_rows(matrix.begin(), matrix.end()), size_rows(matrix.size());
      for (size_t i = 0; i < exact.size(); ++i) size[i] = std::abs(exact[i]);
      for (size_t i = 0; i < exact_rows.size(); ++i) size_rows[i] = std::abs(exact_rows[i]);
      for (int64_t r = 0; r < c.steps; ++r) {
        for (uint32_t k = lists.offset[size_t(r)]; k < lists.offset[size_t(r) + 1]; ++k) {
          for (int64_t i = 0; i < c.cols; ++i) {
            const size_t at = size_t(r * stride + i), in_row = lists.index[k] * size_t(stride) + size_t(i);
            exact[at] += double(value[k]) * matrix[in_row];
            size[at] += std::abs(double(value[k]) * matrix[in_row]);
            exact_rows[in_row] += double(value[k]) * steps[at];
            size_rows[in_row] += std::abs(double(value[k]) * steps[at]);
          }
        }
      }
      for (size_t i = 0; i < exact.size(); ++i) expect_sum(sums[i], exact[i], size[i], c.width);
      for (size_t i = 0; i < exact_rows.size(); ++i)
        expect_sum(rows[i], exact_rows[i], size_rows[i], c.steps);
    }
  });
}

// Rows of bf16 are exact numbers, so the same bound holds.
TEST(NeuronRows, AccumulateAndDotRowsOfBf16) {
  for_every_target([] {
    Random random(8);
    for (const RowsCase& c : rows_cases()) {
      SCOPED_TRACE(::testing::Message() << c.steps << " steps, " << c.width << " x " << c.cols);
      const Lists lists(random, c.steps, c.base, c.width, c.share);
      const int64_t stride = c.cols + 3, n = c.base + c.width;
      const std::vector<float> drawn = normal(random, n * stride), steps = normal(random, c.steps * stride),
                               value = normal(random, lists.entries());
      std::vector<Bf16> matrix;
      for (const float w : drawn) matrix.push_back(to_bf16(w));
      std::vector<float> dots = value, sums = steps;
      dot_rows(lists.view(true), matrix.data(), stride, c.cols, steps.data(), stride, dots.data());
      accumulate_rows(lists.view(true), value.data(), matrix.data(), stride, c.cols, sums.data(), stride);
      for (int64_t r = 0; r < c.steps; ++r) {
        const uint32_t begin = lists.offset[size_t(r)], end = lists.offset[size_t(r) + 1];
        const auto w = [&](uint32_t k, int64_t i) {
          return double(to_float(matrix[lists.index[k] * size_t(stride) + size_t(i)]));
        };
        for (uint32_t k = begin; k < end; ++k) {
          double sum = 0, magnitude = 0;
          for (int64_t i = 0; i < c.cols; ++i) {
            sum += steps[size_t(r * stride + i)] * w(k, i);
            magnitude += std::abs(steps[size_t(r * stride + i)] * w(k, i));
          }
          expect_sum(dots[k], sum, magnitude, c.cols);
        }
        for (int64_t i = 0; i < c.cols; ++i) {
          double sum = steps[size_t(r * stride + i)], magnitude = std::abs(sum);
          for (uint32_t k = begin; k < end; ++k) {
            sum += value[k] * w(k, i);
            magnitude += std::abs(value[k] * w(k, i));
          }
          expect_sum(sums[size_t(r * stride + i)], sum, magnitude, c.width);
        }
        for (int64_t i = c.cols; i < stride; ++i)
          ASSERT_EQ(sums[size_t(r * stride + i)], steps[size_t(r * stride + i)]) << "beyond the columns";
      }
    }
  });
}

TEST(NeuronRows, CausalSumsBelowTheDiagonal) {
  for_every_target([] {
    Random random(2);
    for (int64_t steps : {1, 3, 17, 130, 300}) {
      const int64_t width = 20, padded = (steps + 15) / 16 * 16;
      const Lists lists(random, steps, 0, width, 0.3);
      const std::vector<float> value = normal(random, lists.entries()),
                               matrix = normal(random, width * padded);
      std::vector<float> all(size_t(steps * padded)), below(size_t(steps * padded));
      accumulate_rows(lists.view(), value.data(), matrix.data(), padded, padded, all.data(), padded);
      accumulate_rows(lists.view(), value.data(), matrix.data(), padded, padded, below.data(), padded, true);
      for (int64_t r = 0; r < steps; ++r)
        for (int64_t s = 0; s < r; ++s) ASSERT_EQ(below[size_t(r * padded + s)], all[size_t(r * padded + s)]);
    }
  });
}

TEST(NeuronRows, ReadBeforeWriteInOnePass) {
  for_every_target([] {
    Random random(3);
    for (int64_t cols : {1, 5, 16, 48, 256, 275}) {
      for (const bool listed : {false, true}) {
        const int64_t width = 23;
        const Lists lists(random, 1, 0, width, listed ? 0.4 : 1.0);
        const std::vector<float> value = normal(random, width), written = normal(random, cols),
                                 matrix = normal(random, width * cols);
        std::vector<float> rows = matrix, out(size_t(cols), 1.0f);
        read_and_write_rows(lists.entries(), listed ? lists.index.data() : nullptr, value.data(),
                            written.data(), cols, rows.data(), cols, out.data());
        for (int64_t i = 0; i < cols; ++i) {
          double sum = 1, magnitude = 1;
          for (int64_t k = 0; k < lists.entries(); ++k) {
            const size_t at = lists.index[size_t(k)] * size_t(cols) + size_t(i);
            sum += double(value[size_t(k)]) * matrix[at];
            magnitude += std::abs(double(value[size_t(k)]) * matrix[at]);
            const double product = double(value[size_t(k)]) * written[size_t(i)];
            expect_sum(rows[at], matrix[at] + product, std::abs(matrix[at]) + std::abs(product), 1);
          }
          expect_sum(out[size_t(i)], sum, magnitude, width);
        }
      }
    }
  });
}

TEST(NeuronRotary, TableKeepsItsPhaseForEver) {
  for_every_target([] {
    for (int64_t N : {2, 6, 64, 100, 512}) {
      std::vector<uint64_t> turn(size_t(N / 2));
      rotary_turns(N, turn.data());
      const std::vector<int64_t> positions = {0, 1, 2, 511, 65536, 1'000'000, 123'456'789};
      const int64_t rows = int64_t(positions.size());
      std::vector<float> table(size_t(rotary_table_size(rows, N)));
      rotary_table(rows, positions.data(), N, turn.data(), table.data());
      const NeuronRotary rotary{table.data(), rows, N};
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < N / 2; ++i) {
          const long double turns = (long double)(positions[size_t(r)]) *
                                    std::pow(65536.0L, -2.0L * (long double)(i) / (long double)(N)) /
                                    (2 * std::numbers::pi_v<long double>);
          const long double angle = 2 * std::numbers::pi_v<long double> * (turns - std::floor(turns));
          ASSERT_NEAR(*rotary.cosines(r, i), double(std::cos(angle)), 1.5e-7) << N << " " << r << " " << i;
          ASSERT_NEAR(*rotary.sines(r, i), double(std::sin(angle)), 1.5e-7);
        }
      }
    }
  });
}

// Dense layers of heads·N neurons, some asleep, with their lists.
struct Layer {
  int64_t rows, N, base, width;
  std::vector<float> x;  // [rows, N] of one head
  std::vector<uint32_t> offset{0}, index;
  std::vector<float> value;
  Layer(Random& random, int64_t rows_, int64_t N_, int64_t base_, int64_t width_, double share)
      : rows(rows_), N(N_), base(base_), width(width_), x(size_t(rows * N)) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = base; j < base + width; ++j) {
        if (random.uniform() >= share) continue;
        x[size_t(r * N + j)] = float(0.1 + random.uniform());
        index.push_back(uint32_t(j));
        value.push_back(x[size_t(r * N + j)]);
      }
      offset.push_back(uint32_t(value.size()));
    }
    index.resize(index.size() + kListSlack);
    value.resize(value.size() + kListSlack);
  }
  RowLists lists() const { return {rows, offset.data(), index.data(), base, width, false}; }
};

TEST(NeuronRotary, ListsTurnAsDenseLayersDo) {
  for_every_target([] {
    Random random(4);
    struct Case {
      int64_t rows, N, base, width;
      double share;
    };
    for (const Case& c :
         {Case{1, 2, 0, 2, 1}, Case{3, 6, 0, 6, 0.5}, Case{9, 100, 64, 36, 0.3}, Case{5, 192, 64, 64, 0.2},
          Case{60, 192, 64, 64, 0.5}, Case{2, 300, 0, 300, 0.1}, Case{4, 70, 0, 64, 0.0}}) {
      SCOPED_TRACE(c.N);
      const Layer layer(random, c.rows, c.N, c.base, c.width, c.share);
      std::vector<uint64_t> turn(size_t(c.N / 2));
      rotary_turns(c.N, turn.data());
      std::vector<int64_t> positions;
      for (int64_t r = 0; r < c.rows; ++r) positions.push_back(100 + r);
      std::vector<float> table(size_t(rotary_table_size(c.rows, c.N)));
      rotary_table(c.rows, positions.data(), c.N, turn.data(), table.data());
      const NeuronRotary rotary{table.data(), c.rows, c.N};
      std::vector<float> dense(layer.x.size());
      rotate_neurons(rotary, 0, c.rows, 1, false, false, layer.x.data(), dense.data());

      // Twice around is where it began; turning adds where asked.
      std::vector<float> back(layer.x.begin(), layer.x.end());
      rotate_neurons(rotary, 0, c.rows, 1, true, true, dense.data(), back.data());
      for (size_t i = 0; i < back.size(); ++i) ASSERT_NEAR(back[i], 2 * layer.x[i], 1e-6);

      const size_t capacity = size_t(c.rows * c.width + kListSlack);
      std::vector<uint32_t> offset(size_t(c.rows + 1)), index(capacity);
      std::vector<float> value(capacity), columns(size_t(c.width * c.rows));
      RotatedTile tile{0, 0, offset.data(), index.data(), value.data()};
      rotate_lists(rotary, layer.lists(), layer.value.data(), c.base, 0, tile, columns.data(), c.rows);
      for (int64_t r = 0; r < c.rows; ++r) {
        std::vector<float> spread(size_t(c.width), 0.0f);
        for (uint32_t k = offset[size_t(r)]; k < offset[size_t(r) + 1]; ++k) spread[index[k]] = value[k];
        for (int64_t j = 0; j < c.width; ++j) {
          ASSERT_NEAR(spread[size_t(j)], dense[size_t(r * c.N + c.base + j)], 1e-6);
          ASSERT_EQ(columns[size_t(j * c.rows + r)], spread[size_t(j)]);
        }
        // Both members of every pair, each once, with one awake; no other.
        std::vector<uint32_t> expected;
        for (int64_t j = c.base; j < c.base + c.width; j += 2)
          if (layer.x[size_t(r * c.N + j)] > 0 || layer.x[size_t(r * c.N + j + 1)] > 0)
            for (int64_t m = 0; m < 2; ++m) expected.push_back(uint32_t(j - c.base + m));
        ASSERT_EQ(
            std::vector<uint32_t>(index.begin() + offset[size_t(r)], index.begin() + offset[size_t(r) + 1]),
            expected);
      }

      // Backward: the inverse turn of a gradient given at the rotated entries, at the awake ones.
      rotate_lists(rotary, layer.lists(), layer.value.data(), c.base, 0, tile, nullptr, 0);
      std::vector<float> dvalue(layer.value.size()), ddense(layer.x.size()), drotated(capacity);
      random.fill_normal(drotated.data(), offset[size_t(c.rows)], 1.0f);
      for (int64_t r = 0; r < c.rows; ++r)
        for (uint32_t k = offset[size_t(r)]; k < offset[size_t(r) + 1]; ++k)
          ddense[size_t(r * c.N + c.base + index[k])] = drotated[k];
      std::vector<float> turned(ddense.size());
      rotate_neurons(rotary, 0, c.rows, 1, true, false, ddense.data(), turned.data());
      rotate_lists_backward(rotary, layer.lists(), c.base, 0, tile, drotated.data(), dvalue.data());
      for (int64_t r = 0; r < c.rows; ++r)
        for (uint32_t k = layer.offset[size_t(r)]; k < layer.offset[size_t(r) + 1]; ++k)
          ASSERT_NEAR(dvalue[k], turned[size_t(r * c.N) + layer.index[k]], 1e-6);
    }
  });
}

TEST(Neurons, RectifyPackAndGate) {
  for_every_target([] {
    Random random(5);
    for (int64_t n = 0; n <= 70; ++n) {
      const std::vector<float> u = normal(random, n), w = normal(random, n), g = normal(random, n);
      std::vector<float> x = u, y = w, z(size_t(n) + 1), dz = g, dx(size_t(n), 0.5f), masked = g;
      // Three tiles; their lists lie one after the other, each known by a number of its own of a table.
      const std::vector<int64_t> begin = {1000, 1000 + n / 3, 1000 + n / 3, 1000 + n};
      constexpr int64_t kStride = 2;
      std::vector<uint32_t> count(3 * kStride), offset(3 * kStride);
      relu_count(3, begin.data(), 0.2f, x.data(), count.data(), kStride);
      for (size_t t = 0; t < 3; ++t) {
        offset[t * kStride] = t == 0 ? 0 : offset[t * kStride - 1];
        offset[t * kStride + 1] = offset[t * kStride] + count[t * kStride];
      }
      const int64_t awake = offset[2 * kStride + 1];
      std::vector<float> value(size_t(n + kListSlack), 7.0f);
      std::vector<uint32_t> index(size_t(n + kListSlack), 7u);
      pack_awake(3, begin.data(), x.data(), offset.data(), kStride, 1, value.data(), index.data());
      const int64_t gated = gate_forward(n, x.data(), y.data(), z.data());
      gate_backward(n, x.data(), y.data(), dz.data(), dx.data());
      relu_mask(n, x.data(), masked.data());
      int64_t at = 0, open = 0;
      for (int64_t i = 0; i < n; ++i) {
        const size_t s = size_t(i);
        const float rectified = std::max(u[s] - 0.2f, 0.0f), gate = std::max(w[s], 0.0f);
        ASSERT_EQ(x[s], rectified);
        ASSERT_EQ(y[s], gate);
        ASSERT_EQ(z[s], rectified * gate);
        ASSERT_NEAR(dx[s], 0.5f + g[s] * gate, 1e-6);
        ASSERT_EQ(dz[s], gate > 0 ? g[s] * rectified : 0.0f);
        ASSERT_EQ(masked[s], rectified > 0 ? g[s] : 0.0f);
        open += rectified > 0 && gate > 0;
        if (rectified > 0) {
          ASSERT_EQ(value[size_t(at)], rectified);
          ASSERT_EQ(index[size_t(at++)], uint32_t(1000 + i));
        }
      }
      ASSERT_EQ(at, awake);
      ASSERT_EQ(gated, open);
      for (size_t i = size_t(awake); i < value.size(); ++i)
        ASSERT_EQ(value[i], 7.0f);  // nothing beyond is touched
    }
  });
}

TEST(Neurons, GatedLists) {
  for_every_target([] {
    Random random(6);
    for (const float rate : {0.0f, 0.4f}) {
      for (const bool all : {false, true}) {
        const Layer layer(random, 11, 90, 0, 90, 0.4);
        const int64_t entries = layer.offset.back();
        const std::vector<float> y = normal(random, entries), dz = normal(random, entries);
        const size_t capacity = size_t(entries + kListSlack);
        std::vector<uint32_t> offset(12), index(capacity), place(capacity);
        std::vector<float> value(capacity), dx(capacity), dvalue(dz);
        dvalue.resize(capacity);
        GatedTile tile{0, 0, 0, offset.data(), index.data(), value.data(), place.data()};
        const Gating gating{.all = all, .dropout = rate, .seed = 9, .neurons = 90};
        const int64_t above = gate_lists(layer.lists(), layer.value.data(), y.data(), gating, tile);
        gate_lists_backward(tile, layer.value.data(), y.data(), gating, dvalue.data(), dx.data());
        ASSERT_EQ(above, std::count_if(y.begin(), y.begin() + entries, [](float v) { return v > 0; }));
        uint32_t at = 0;
        for (int64_t r = 0; r < layer.rows; ++r) {
          ASSERT_EQ(offset[size_t(r)], at);
          for (uint32_t k = layer.offset[size_t(r)]; k < layer.offset[size_t(r) + 1]; ++k) {
            if (!(y[k] > 0) && !all) {
              ASSERT_EQ(dx[k], 0);
              continue;
            }
            const float gate = std::max(y[k], 0.0f), keep = gating.factor(r, layer.index[k]);
            ASSERT_EQ(place[at], k);
            ASSERT_EQ(index[at], layer.index[k]);
            ASSERT_FLOAT_EQ(value[at], layer.value[k] * gate * keep);
            ASSERT_FLOAT_EQ(dx[k], dz[at] * keep * gate);
            ASSERT_FLOAT_EQ(dvalue[at], y[k] > 0 ? dz[at] * keep * layer.value[k] : 0.0f);
            ++at;
          }
        }
        ASSERT_EQ(offset[size_t(layer.rows)], at);
      }
    }
  });
}

TEST(Neurons, DropoutKeepsItsRateAndItsMean) {
  int64_t dropped = 0;
  double sum = 0;
  constexpr int64_t kN = 100'000;
  std::vector<float> x(kN, 1.0f);
  drop_out(kN, 5, 1000, 0.3f, x.data());
  for (int64_t i = 0; i < kN; ++i) {
    ASSERT_EQ(x[size_t(i)], dropout_factor(5, uint64_t(1000 + i), 0.3f));
    dropped += x[size_t(i)] == 0;
    sum += x[size_t(i)];
  }
  // Six standard deviations of a binomial.
  EXPECT_NEAR(double(dropped) / kN, 0.3, 6 * std::sqrt(0.21 / kN));
  EXPECT_NEAR(sum / kN, 1.0, 6 * std::sqrt(0.3 / 0.7 / kN));
}

}  // namespace
}  // namespace brood::kernels
