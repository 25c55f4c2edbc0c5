// Dragon Hatchling as its paper first gives it (arXiv 2509.26507, section 2): neurons that signal to their
// neighbours along the edges of sparse graphs, and synapses on edges that grow where two of them are awake one
// after the other. No matrices, no norms, nothing negative: a rule touches one neuron, or two and the edge
// between them. It is run, not trained; docs/bdh-graph.md shows how it is the same as equation 6 and, over
// complete graphs, as the tensor form that is trained (blocks/bdh.cc) without its norms.
//
// A token takes 4 rounds a layer, with the same graphs in every layer l:
//
//   4l+0  pass on   Y(i) → X(j)              X(j) += ( Σ_i G_x^e(i,j) Y(i) − Σ_i G_x^i(i,j) Y(i) )⁺
//   4l+1  read      X(i), σ_l(i,j) → A(j)    A(j)  = Σ_i X(i) σ_l(i,j)
//   4l+2  write     X(i), Y(j) → σ_l(i,j)    σ_l(i,j) ← u(i) ( σ_l(i,j) + G_s(i,j) X(i) Y(j) )
//   4l+3  answer    A(i), X(j) → Y(j)        Y(j)  = ( Σ_i G_y^e(i,j) A(i) − Σ_i G_y^i(i,j) A(i) )⁺ X(j)
//
// with Y the token's own neurons and X = 0 before the first round. The paper numbers the rounds from the read
// on; its table prints the indices of the write the other way about than equation 6 and section 2.4, which are
// followed here. Nothing is said of X between tokens; here each token begins with X = 0, as equation 8 does.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace brood {

// G(i,j) >= 0, the weight of the edge from i to j; edges that are not there weigh 0.
struct Graph {
  struct Edge {
    int32_t from, to;
    double weight;
  };
  int64_t sources = 0, targets = 0;  // nodes on either side
  std::vector<Edge> edges;

  void spread(std::span<const double> x, std::span<double> y) const;  // y(j) += Σ_i G(i,j) x(i)
};
Graph complete_graph(int64_t nodes, double weight = 1);

// One graph, or two where signals go through hubs on their way.
using Path = std::vector<Graph>;
struct Circuit {
  Path excite, inhibit;
};

// Claim 3: the circuit with G^e − G^i = M, M(i,j) = Σ_k D(j,k) E(k,i) for any factors D, E with d columns, all
// of its weights >= 0 and O(n·d) edges, through 2d hubs, one for each sign of each k:
//   G^e = D⁺E⁺ + D⁻E⁻,   G^i = D⁻E⁺ + D⁺E⁻
// Both factors neuron-major, [n, d], as a model's encoder, encoder_v (D) and decoder (E transposed) are.
Circuit circuit_through_hubs(int64_t d, std::span<const float> D, std::span<const float> E);
// The same signals without hubs: an edge for each entry of M that is not 0.
Circuit circuit_of_edges(int64_t d, std::span<const float> D, std::span<const float> E);

class BdhGraph {
 public:
  struct Wiring {
    int64_t neurons = 0, layers = 1;
    Circuit x, y;              // G_x, G_y
    Graph synapses;            // G_s: where synapses are, and how fast they grow
    std::vector<double> kept;  // [neurons] u(i): what is kept of a synapse from i from token to token
  };
  // Throws Error when graphs do not join these neurons, weights are negative or u is not in [0, 1].
  explicit BdhGraph(Wiring wiring);

  // One token: its own neurons, >= 0, then 4 rounds a layer.
  void token(std::span<const double> own);

  // The rounds one by one.
  void begin(std::span<const double> own);
  void pass_on();
  void read(int64_t layer);
  void write(int64_t layer);
  void answer();

  std::span<const double> x() const { return x_; }
  std::span<const double> y() const { return y_; }  // after the last round: what the token says
  std::span<const double> a() const { return a_; }
  // σ of a layer, edge by edge as wiring().synapses has them.
  std::span<const double> sigma(int64_t layer) const { return sigma_[size_t(layer)]; }
  const Wiring& wiring() const { return wiring_; }

 private:
  const Wiring wiring_;
  std::vector<double> x_, y_, a_;           // on neurons
  std::vector<std::vector<double>> sigma_;  // on edges, one set a layer
  std::vector<double> heard_, calmed_;      // what a round brings to a neuron, by either circuit
};

}  // namespace brood
