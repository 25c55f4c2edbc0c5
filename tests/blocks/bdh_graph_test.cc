// Rounds on graphs against the paper's equations written with matrices.
#include "brood/blocks/bdh_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "brood/base/random.h"
#include "tests/fixture/messages.h"

namespace brood {
namespace {

using Vector = std::vector<double>;

// M(r,c), dense.
struct Matrix {
  int64_t rows, cols;
  Vector at = Vector(size_t(rows * cols), 0.0);
  double& operator()(int64_t r, int64_t c) { return at[size_t(r * cols + c)]; }
  double operator()(int64_t r, int64_t c) const { return at[size_t(r * cols + c)]; }
};

Vector times(const Matrix& m, const Vector& x) {
  Vector y(size_t(m.rows), 0.0);
  for (int64_t r = 0; r < m.rows; ++r)
    for (int64_t c = 0; c < m.cols; ++c) y[size_t(r)] += m(r, c) * x[size_t(c)];
  return y;
}

Vector positive(Vector x) {
  for (double& v : x) v = std::max(v, 0.0);
  return x;
}

// As a matrix that multiplies columns from the left: entry (j, i) is the weight from i to j.
Matrix matrix_of(const Path& path) {
  const int64_t n = path.front().sources;
  Matrix m{path.back().targets, n};
  for (int64_t i = 0; i < n; ++i) {
    Vector at(size_t(n), 0.0);
    at[size_t(i)] = 1;
    for (const Graph& graph : path) {
      Vector next(size_t(graph.targets), 0.0);
      graph.spread(at, next);
      at = next;
    }
    for (int64_t j = 0; j < m.rows; ++j) m(j, i) = at[size_t(j)];
  }
  return m;
}

Matrix difference(const Circuit& circuit) {
  Matrix m = matrix_of(circuit.excite);
  const Matrix inhibit = matrix_of(circuit.inhibit);
  for (size_t k = 0; k < m.at.size(); ++k) m.at[k] -= inhibit.at[k];
  return m;
}

Graph random_graph(Random& random, int64_t n, double density, double scale) {
  Graph graph{n, n, {}};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      if (random.uniform() < density)
        graph.edges.push_back({int32_t(i), int32_t(j), scale * random.uniform()});
  return graph;
}

Vector random_token(Random& random, int64_t n) {
  Vector own(static_cast<size_t>(n));
  for (double& v : own) v = std::max(0.0, random.uniform() - 0.5);
  return own;
}

std::vector<float> random_factor(Random& random, int64_t n, int64_t d) {
  std::vector<float> factor(static_cast<size_t>(n * d));
  random.fill_normal(factor.data(), n * d, float(1 / std::sqrt(double(n))));
  return factor;
}

void expect_close(std::span<const double> got, const Vector& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  double scale = 1e-30, worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    scale = std::max(scale, std::abs(expected[i]));
    worst = std::max(worst, std::abs(got[i] - expected[i]));
  }
  EXPECT_LE(worst, tolerance * scale);
}

// Doubles, added up in another order.
constexpr double kClose = 1e-10;

// Equation 6, token by token:
//   x_l = x_{l−1} + ((G_x^e − G_x^i) y_{l−1})⁺
//   y_l = ((G_y^e − G_y^i) σ_l x_l)⁺ ∘ x_l                  σ before this token
//   σ_l ← (σ_l + (y_{l−1} x_lᵀ) ∘ G_s) U                    U = diag(u)
struct Equation6 {
  int64_t n, layers;
  Matrix Gx, Gy, Gs;
  Vector u;
  std::vector<Matrix> sigma = std::vector<Matrix>(size_t(layers), Matrix{n, n});

  Vector token(Vector y) {
    Vector x(size_t(n), 0.0);
    for (Matrix& s : sigma) {
      const Vector step = positive(times(Gx, y));
      for (size_t j = 0; j < x.size(); ++j) x[j] += step[j];
      Vector next = positive(times(Gy, times(s, x)));
      for (size_t j = 0; j < x.size(); ++j) next[j] *= x[j];
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < n; ++i)
          s(j, i) = (s(j, i) + y[size_t(j)] * x[size_t(i)] * Gs(j, i)) * u[size_t(i)];
      y = next;
    }
    return y;
  }
};

TEST(BdhGraph, RoundsAreEquation6) {
  for (const auto& [n, layers, density] :
       {std::tuple(int64_t(1), int64_t(1), 1.0), std::tuple(int64_t(7), int64_t(2), 0.5),
        std::tuple(int64_t(64), int64_t(3), 0.1)}) {
    SCOPED_TRACE(n);
    Random random{uint64_t(n)};
    BdhGraph::Wiring wiring;
    wiring.neurons = n;
    wiring.layers = layers;
    const double scale = 4 / (double(n) * density);  // so that signals neither die nor explode
    wiring.x = {{random_graph(random, n, density, scale)}, {random_graph(random, n, density / 2, scale)}};
    wiring.y = {{random_graph(random, n, density, scale)}, {random_graph(random, n, density / 2, scale)}};
    wiring.synapses = random_graph(random, n, density, 1);
    for (int64_t i = 0; i < n; ++i) wiring.kept.push_back(0.8 + 0.2 * random.uniform());
    Equation6 tensors{.n = n,
                      .layers = layers,
                      .Gx = difference(wiring.x),
                      .Gy = difference(wiring.y),
                      .Gs = matrix_of({wiring.synapses}),
                      .u = wiring.kept};
    BdhGraph graph(wiring);
    double said = 0;
    for (int token = 0; token < 20; ++token) {
      const Vector own = random_token(random, n);
      graph.token(own);
      const Vector y = tensors.token(own);
      expect_close(graph.y(), y, kClose);
      for (const double v : y) said += v;
    }
    if (n > 1) {
      EXPECT_GT(said, 1e-6) << "nothing was compared";
    }
    for (int64_t l = 0; l < layers; ++l) {
      const auto& edges = wiring.synapses.edges;
      Vector expected;
      for (const Graph::Edge& e : edges) expected.push_back(tensors.sigma[size_t(l)](e.to, e.from));
      expect_close(graph.sigma(l), expected, kClose);
    }
  }
}

TEST(BdhGraph, FactorsSplitIntoGraphsWithoutSigns) {
  constexpr int64_t n = 24, d = 5;
  Random random(2);
  const auto D = random_factor(random, n, d), E = random_factor(random, n, d);
  Matrix product{n, n};
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < d; ++k)
        product(j, i) += double(D[size_t(j * d + k)]) * double(E[size_t(i * d + k)]);
  const Circuit hubs = circuit_through_hubs(d, D, E), edges = circuit_of_edges(d, D, E);
  for (const Circuit* circuit : {&hubs, &edges}) {
    expect_close(difference(*circuit).at, product.at, kClose);
    for (const Path* path : {&circuit->excite, &circuit->inhibit})
      for (const Graph& graph : *path)
        for (const Graph::Edge& edge : graph.edges) EXPECT_GE(edge.weight, 0);
  }
  // Claim 3's own graphs: D⁺E⁺ + D⁻E⁻ and D⁻E⁺ + D⁺E⁻.
  Matrix excite{n, n}, inhibit{n, n};
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < d; ++k) {
        const double one = double(D[size_t(j * d + k)]) * double(E[size_t(i * d + k)]);
        (one > 0 ? excite : inhibit)(j, i) += std::abs(one);
      }
  expect_close(matrix_of(hubs.excite).at, excite.at, kClose);
  expect_close(matrix_of(hubs.inhibit).at, inhibit.at, kClose);
  EXPECT_EQ(hubs.excite[0].edges.size(), size_t(n * d)) << "each entry has one sign";
  EXPECT_EQ(hubs.excite[1].edges.size() + hubs.inhibit[1].edges.size(), size_t(2 * n * d));
}

// The tensor form without norms, whose synapses are n × d numbers:
//   x_l = x_{l−1} + (D_x E y_{l−1})⁺,  y_l = (D_y ρ_l x_l)⁺ ∘ x_l,  ρ_l ← (ρ_l + (E y_{l−1}) x_lᵀ) U
// is the graph form over complete graphs, and ρ = E σ.
TEST(BdhGraph, OverCompleteGraphsItIsTheTensorFormWithoutNorms) {
  constexpr int64_t n = 40, d = 6, layers = 3;
  Random random(3);
  const auto Dx = random_factor(random, n, d), Dy = random_factor(random, n, d),
             E = random_factor(random, n, d);
  const auto matrix = [&](const std::vector<float>& rows, bool transposed) {
    Matrix m{transposed ? d : n, transposed ? n : d};
    for (int64_t j = 0; j < n; ++j)
      for (int64_t k = 0; k < d; ++k) (transposed ? m(k, j) : m(j, k)) = 8 * double(rows[size_t(j * d + k)]);
    return m;
  };
  const auto scaled = [](std::vector<float> factor) {
    for (float& v : factor) v *= 8;
    return factor;
  };
  const Matrix DX = matrix(Dx, false), DY = matrix(Dy, false), ET = matrix(E, true);
  const Vector u(size_t(n), 0.9);
  for (const bool hubs : {true, false}) {
    const auto make = hubs ? circuit_through_hubs : circuit_of_edges;
    BdhGraph graph({.neurons = n,
                    .layers = layers,
                    .x = make(d, scaled(Dx), scaled(E)),
                    .y = make(d, scaled(Dy), scaled(E)),
                    .synapses = complete_graph(n),
                    .kept = u});
    std::vector<Matrix> rho(size_t(layers), Matrix{d, n});
    double said = 0;
    for (int token = 0; token < 8; ++token) {
      const Vector own = random_token(random, n);
      graph.token(own);
      Vector x(size_t(n), 0.0), y = own;
      for (Matrix& r : rho) {
        const Vector v = times(ET, y), step = positive(times(DX, v));
        for (size_t j = 0; j < x.size(); ++j) x[j] += step[j];
        y = positive(times(DY, times(r, x)));
        for (size_t j = 0; j < x.size(); ++j) y[j] *= x[j];
        for (int64_t k = 0; k < d; ++k)
          for (int64_t i = 0; i < n; ++i) r(k, i) = (r(k, i) + v[size_t(k)] * x[size_t(i)]) * u[size_t(i)];
      }
      expect_close(graph.y(), y, 1e-8);
      for (const double v : y) said += v;
    }
    EXPECT_GT(said, 1e-3);
    for (int64_t l = 0; l < layers; ++l) {
      Matrix e_sigma{d, n};  // Σ_j E(k,j) σ(i,j)
      const auto& edges = graph.wiring().synapses.edges;
      for (size_t at = 0; at < edges.size(); ++at)
        for (int64_t k = 0; k < d; ++k)
          e_sigma(k, edges[at].from) += ET(k, edges[at].to) * graph.sigma(l)[at];
      expect_close(e_sigma.at, rho[size_t(l)].at, 1e-8);
    }
  }
}

TEST(BdhGraph, RefusesWhatIsNoGraphOfIts) {
  const auto refused = [](const auto& spoil, const std::string& words) {
    BdhGraph::Wiring wiring{.neurons = 3,
                            .layers = 1,
                            .x = {{complete_graph(3)}, {complete_graph(3)}},
                            .y = {{complete_graph(3)}, {complete_graph(3)}},
                            .synapses = complete_graph(3),
                            .kept = Vector(3, 1.0)};
    spoil(wiring);
    expect_contains(message_of([&] { BdhGraph{wiring}; }), words);
  };
  refused([](auto& w) { w.layers = 0; }, "0 layers");
  refused([](auto& w) { w.x.excite[0].edges[4].weight = -0.5; }, "-0.5");
  refused([](auto& w) { w.y.inhibit[0].edges[4].to = 3; }, "to 3");
  refused([](auto& w) { w.y.excite = {complete_graph(4)}; }, "3 nodes lead to a graph that begins with 4");
  refused([](auto& w) { w.y.excite = {Graph{3, 5, {}}}; }, "from 3 neurons to themselves");
  // Each ends where it should, but the second does not begin where the first ends.
  refused([](auto& w) { w.x.excite = {complete_graph(3), Graph{5, 3, {{4, 0, 1.0}}}}; }, "begins with 5");
  refused([](auto& w) { w.x.inhibit = {Graph{3, 6, {}}, Graph{5, 3, {{4, 0, 1.0}}}}; }, "6 nodes lead");
  refused([](auto& w) { w.x.inhibit.clear(); }, "inhibiting");
  refused([](auto& w) { w.kept = Vector(2, 1.0); }, "2 of 3");
  refused([](auto& w) { w.kept[1] = 1.5; }, "1.5");
}

}  // namespace
}  // namespace brood
