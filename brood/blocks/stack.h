// Stack: layers of a mixer and, where wanted, a feed, each behind a norm and added to the stream of d_model
// channels:
//
//   serial:    x ← x + mixer(norm x);   x ← x + feed(norm' x)
//   parallel:  n = norm x;   x ← x + mixer(n) + feed(n)        (PaLM: Chowdhery et al. 2022)
//
// Any mixer goes with any feed. Keys of the configuration beside those of its mixers and feeds: d_model,
// n_layer, vocab_size, tie_embeddings, norm ("rms", or "layer" with weight and bias), norm_eps, embedding_norm
// (true: a norm behind the embedding, too), dropout, feed ("none", a name, an object {"type": NAME, ...}
// or a list of these), parallel; and for the architecture "stack" also mixer, in the same forms. A list is
// repeated over the layers: ["mamba", "mamba", "attention"] makes every third layer one of attention. A part
// given by its name reads its keys from the configuration itself, one given by an object from there. The
// effective configuration has objects for such parts given by name as would read different defaults for one key.
#pragma once

#include "brood/blocks/block.h"

namespace brood {

// How a public checkpoint spells its parameters.
struct Spelling {
  const char *embedding = "embedding.weight", *final_norm = "norm.weight", *head = "head.weight";
  const char* layer = "layers.";  // and the number, and a full stop
  const char *mixer_norm = "mixer_norm.weight", *feed_norm = "feed_norm.weight";
  const char *mixer = "mixer.", *feed = "feed.";
  const char* embedding_norm = "embedding_norm.weight";
};

// What an architecture has where its configuration says nothing, and how its vocabulary begins.
struct Habits {
  const char* norm = "rms";
  bool embedding_norm = false, tied_head = true;
  float embedding_stddev = 0.02f;
  float head_gain = 0;  // above 0: the head begins with this over sqrt(d_model), else with 0.02
};

// The architecture of that name whose layers have this mixer, and this feed unless the configuration says
// another. mixer empty: the configuration names it.
Architecture stack(const char* name, const char* mixer, const char* feed, const Spelling& spelling,
                   const Habits& habits = {});

}  // namespace brood
