#include "brood/blocks/bdh_graph.h"

#include <algorithm>
#include <cmath>

#include "brood/base/error.h"

namespace brood {

namespace {

void add_edge(Graph& graph, int64_t from, int64_t to, double weight) {
  if (weight > 0) graph.edges.push_back({int32_t(from), int32_t(to), weight});
}

// y = what comes through.
void through(const Path& path, std::span<const double> x, std::vector<double>& y) {
  std::vector<double> at(x.begin(), x.end());
  for (const Graph& graph : path) {
    y.assign(size_t(graph.targets), 0.0);
    graph.spread(at, y);
    at = y;
  }
}

void check(const Graph& graph, const char* name) {
  for (const Graph::Edge& edge : graph.edges) {
    if (edge.from < 0 || edge.from >= graph.sources || edge.to < 0 || edge.to >= graph.targets)
      fail("graph {}: an edge from {} to {}, but there are {} and {} nodes", name, edge.from, edge.to,
           graph.sources, graph.targets);
    if (!(edge.weight >= 0) || !std::isfinite(edge.weight))
      fail("graph {}: the edge from {} to {} weighs {}, but must not be below 0", name, edge.from, edge.to,
           edge.weight);
  }
}

void check(const Path& path, int64_t neurons, const char* name) {
  int64_t nodes = neurons;
  for (const Graph& graph : path) {
    check(graph, name);
    if (graph.sources != nodes)
      fail("graph {}: {} nodes lead to a graph that begins with {}", name, nodes, graph.sources);
    nodes = graph.targets;
  }
  if (path.empty() || nodes != neurons)
    fail("graph {}: it does not lead from {} neurons to themselves", name, neurons);
}

}  // namespace

void Graph::spread(std::span<const double> x, std::span<double> y) const {
  for (const Edge& edge : edges) y[size_t(edge.to)] += edge.weight * x[size_t(edge.from)];
}

Graph complete_graph(int64_t nodes, double weight) {
  Graph graph{nodes, nodes, {}};
  for (int64_t i = 0; i < nodes; ++i)
    for (int64_t j = 0; j < nodes; ++j) add_edge(graph, i, j, weight);
  return graph;
}

Circuit circuit_through_hubs(int64_t d, std::span<const float> D, std::span<const float> E) {
  const int64_t n = int64_t(D.size()) / d;
  BROOD_ASSERT(d > 0 && int64_t(D.size()) == n * d && E.size() == D.size());
  // Hub 2k hears what is positive in E(k,·), hub 2k + 1 what is negative.
  Graph in{n, 2 * d, {}}, excite{2 * d, n, {}}, inhibit{2 * d, n, {}};
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < d; ++k) {
      const double e = double(E[size_t(i * d + k)]), weight = double(D[size_t(i * d + k)]);
      add_edge(in, i, 2 * k, e);
      add_edge(in, i, 2 * k + 1, -e);
      add_edge(excite, 2 * k, i, weight);
      add_edge(excite, 2 * k + 1, i, -weight);
      add_edge(inhibit, 2 * k, i, -weight);
      add_edge(inhibit, 2 * k + 1, i, weight);
    }
  }
  return {{in, std::move(excite)}, {in, std::move(inhibit)}};
}

Circuit circuit_of_edges(int64_t d, std::span<const float> D, std::span<const float> E) {
  const int64_t n = int64_t(D.size()) / d;
  BROOD_ASSERT(d > 0 && int64_t(D.size()) == n * d && E.size() == D.size());
  Graph excite{n, n, {}}, inhibit{n, n, {}};
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double weight = 0;
      for (int64_t k = 0; k < d; ++k) weight += double(D[size_t(j * d + k)]) * double(E[size_t(i * d + k)]);
      add_edge(excite, i, j, weight);
      add_edge(inhibit, i, j, -weight);
    }
  }
  return {{std::move(excite)}, {std::move(inhibit)}};
}

BdhGraph::BdhGraph(Wiring wiring) : wiring_(std::move(wiring)) {
  const int64_t n = wiring_.neurons;
  if (n < 1 || n > INT32_MAX || wiring_.layers < 1)
    fail("graph: {} neurons in {} layers; at least one of each is needed", n, wiring_.layers);
  check(wiring_.x.excite, n, "x, exciting");
  check(wiring_.x.inhibit, n, "x, inhibiting");
  check(wiring_.y.excite, n, "y, exciting");
  check(wiring_.y.inhibit, n, "y, inhibiting");
  check(Path{wiring_.synapses}, n, "of synapses");
  if (int64_t(wiring_.kept.size()) != n)
    fail("graph: what is kept is said of {} of {} neurons", wiring_.kept.size(), n);
  for (const double u : wiring_.kept)
    if (!(u >= 0 && u <= 1)) fail("graph: a neuron's synapses keep {}, but a share goes from 0 to 1", u);
  for (std::vector<double>* values : {&x_, &y_, &a_}) values->assign(size_t(n), 0.0);
  sigma_.assign(size_t(wiring_.layers), std::vector<double>(wiring_.synapses.edges.size(), 0.0));
}

void BdhGraph::token(std::span<const double> own) {
  begin(own);
  for (int64_t layer = 0; layer < wiring_.layers; ++layer) {
    pass_on();
    read(layer);
    write(layer);
    answer();
  }
}

void BdhGraph::begin(std::span<const double> own) {
  if (own.size() != y_.size()) fail("graph: a token of {} neurons, but there are {}", own.size(), y_.size());
  for (const double y : own)
    if (!(y >= 0) || !std::isfinite(y)) fail("graph: a neuron of a token is {}, but must not be below 0", y);
  std::copy(own.begin(), own.end(), y_.begin());
  std::fill(x_.begin(), x_.end(), 0.0);
}

void BdhGraph::pass_on() {
  through(wiring_.x.excite, y_, heard_);
  through(wiring_.x.inhibit, y_, calmed_);
  for (size_t j = 0; j < x_.size(); ++j) x_[j] += std::max(0.0, heard_[j] - calmed_[j]);
}

void BdhGraph::read(int64_t layer) {
  const std::vector<double>& sigma = sigma_[size_t(layer)];
  std::fill(a_.begin(), a_.end(), 0.0);
  for (size_t k = 0; k < sigma.size(); ++k) {
    const Graph::Edge& edge = wiring_.synapses.edges[k];
    a_[size_t(edge.to)] += x_[size_t(edge.from)] * sigma[k];
  }
}

void BdhGraph::write(int64_t layer) {
  std::vector<double>& sigma = sigma_[size_t(layer)];
  for (size_t k = 0; k < sigma.size(); ++k) {
    const Graph::Edge& edge = wiring_.synapses.edges[k];
    const double grown = edge.weight * x_[size_t(edge.from)] * y_[size_t(edge.to)];
    sigma[k] = wiring_.kept[size_t(edge.from)] * (sigma[k] + grown);
  }
}

void BdhGraph::answer() {
  through(wiring_.y.excite, a_, heard_);
  through(wiring_.y.inhibit, a_, calmed_);
  for (size_t j = 0; j < y_.size(); ++j) y_[j] = std::max(0.0, heard_[j] - calmed_[j]) * x_[j];
}

}  // namespace brood
