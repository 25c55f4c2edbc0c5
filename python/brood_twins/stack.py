"""Stacks: layers of a mixer and, where wanted, a feed, each behind a norm and added to the stream (docs/stack.md).

    serial:    x ← x + mixer(norm x);   x ← x + feed(norm' x)
    parallel:  n = norm x;   x ← x + mixer(n) + feed(n)
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from .attention import Attention
from .bdh import Bdh
from .experts import Selected, Switch
from .feeds import Relu2, SwiGlu
from .gated_deltanet import GatedDeltaNet
from .mamba import Mamba
from .mamba2 import Mamba2
from .mamba3 import Mamba3
from .mcsd import Mcsd
from .mingru import MinGru
from .parts import Keys, Place, RmsNorm, linear, normal
from .retention import Retention
from .rwkv import Rwkv4, Rwkv4Ffn, Rwkv7, Rwkv7Ffn
from .s4d import S4d

MIXERS = dict(attention=Attention, gated_deltanet=GatedDeltaNet, mamba=Mamba, mamba2=Mamba2, mamba3=Mamba3,
              mcsd=Mcsd, mingru=MinGru, retention=Retention, rwkv4=Rwkv4, rwkv7=Rwkv7, s4d=S4d)
FEEDS = dict(none=None, relu2=Relu2, rwkv4_ffn=Rwkv4Ffn, rwkv7_ffn=Rwkv7Ffn,
             selected=Selected, swiglu=SwiGlu, switch=Switch)


@dataclass
class Spelling:
    """How an architecture's files spell its modules."""

    embedding: str = "embedding"
    final_norm: str = "norm"
    head: str = "head"
    layers: str = "layers"
    mixer_norm: str = "mixer_norm"
    feed_norm: str = "feed_norm"
    mixer: str = "mixer"
    feed: str = "feed"
    embedding_norm: str = "embedding_norm"


@dataclass
class Habits:
    """What an architecture has where its configuration says nothing."""

    norm: str = "rms"
    embedding_norm: bool = False
    tied: bool = True
    embedding_stddev: float = 0.02
    head_gain: float = 0  # above 0: the head begins with this over √d_model


MAMBA = Spelling("backbone.embedding", "backbone.norm_f", "lm_head", "backbone.layers", mixer_norm="norm")
LLAMA = Spelling("model.embed_tokens", "model.norm", "lm_head", "model.layers", "input_layernorm",
                 "post_attention_layernorm", "self_attn", "mlp")
FLA = Spelling("model.embeddings", "model.norm", "lm_head", "model.layers", "attn_norm", "mlp_norm", "attn", "mlp")
RWKV4 = Spelling("rwkv.embeddings", "rwkv.ln_out", "head", "rwkv.blocks", "ln1", "ln2", "attention", "feed_forward",
                 "rwkv.blocks.0.pre_ln")
RWKV7 = Spelling("model.embeddings", "model.norm", "lm_head", "model.layers", "attn_norm", "ffn_norm", "attn", "ffn",
                 "model.layers.0.pre_norm")
RWKV = Habits("layer", True, False, 1e-4 / 3**0.5, 0.5)

# architecture: mixer, feed, spelling, habits
STACKS = {
    "gated_deltanet": ("gated_deltanet", "swiglu", FLA),
    "mamba": ("mamba", "none", MAMBA),
    "mamba2": ("mamba2", "none", MAMBA),
    "mamba3": ("mamba3", "none", MAMBA),
    "mcsd": ("mcsd", "swiglu", Spelling()),
    "mingru": ("mingru", "swiglu", Spelling()),
    "retention": ("retention", "swiglu", Spelling()),
    "rwkv4": ("rwkv4", "rwkv4_ffn", RWKV4, RWKV),
    "rwkv7": ("rwkv7", "rwkv7_ffn", RWKV7, RWKV),
    "s4d": ("s4d", "none", Spelling()),
    "stack": (None, "none", Spelling()),
    "transformer": ("attention", "swiglu", LLAMA),
}


def put(root, name, module):
    """Names a module, so that its parameters are called what the file calls them; gives it back."""
    *above, last = name.split(".")
    for part in above:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root._modules[part]
    root.add_module(last, module)
    return module


class Turns:
    """The parts that one key of the configuration names, in turn over the layers."""

    def __init__(self, keys, key, fixed, known):
        given = keys(key, fixed) if key == "feed" or fixed is None else fixed
        self.keys, self.key, self.known, self.is_list = keys, key, known, isinstance(given, list)
        self.turns = [(one["type"], Keys(one, f"config.json: {key}")) if isinstance(one, dict) else (one, None)
                      for one in (given if self.is_list else [given])]
        self.shared = {}
        for name, _ in self.turns:
            if name not in known:
                raise ValueError(f"config.json: {key} is {name!r}; known are {', '.join(sorted(known))}")

    def make(self, place):
        name, own = self.turns[place.layer % len(self.turns)]
        place.shared = self.shared.setdefault(name, {})
        return self.known[name](own or self.keys, place) if self.known[name] else None

    def finish(self):
        for _, own in self.turns:
            if own:
                own("type", None)
                own.finish()
        if any(own for _, own in self.turns):
            effective = [own.effective if own else name for name, own in self.turns]
            self.keys.effective[self.key] = effective if self.is_list else effective[0]


class Stack(nn.Module):
    def __init__(self, keys, mixer, feed, names, habits=Habits()):
        super().__init__()
        d, n_layer, eps = keys("d_model", 128), keys("n_layer", 4), keys("norm_eps", 1e-5)
        vocabulary, self.dropout = keys("vocab_size", 256), keys("dropout", 0.0)
        mixers, feeds = Turns(keys, "mixer", mixer, MIXERS), Turns(keys, "feed", feed, FEEDS)
        parallel = any(name != "none" for name, _ in feeds.turns) and keys("parallel", False)
        Norm = dict(rms=RmsNorm, layer=nn.LayerNorm)[keys("norm", habits.norm)]
        # The modules live in the tree of their names; here they stand in the order of their work.
        self.order = []
        embedding = put(self, names.embedding, normal(nn.Embedding(vocabulary, d), habits.embedding_stddev))
        first_norm = keys("embedding_norm", habits.embedding_norm)
        first_norm = put(self, names.embedding_norm, Norm(d, eps)) if first_norm else nn.Identity()
        for i in range(n_layer):
            layer, place = f"{names.layers}.{i}.", lambda: Place(i, n_layer, d, eps)
            mixer_norm = put(self, layer + names.mixer_norm, Norm(d, eps))
            mixing = put(self, layer + names.mixer, mixers.make(place()))
            feeding, feed_norm = feeds.make(place()), None
            if feeding is not None:
                put(self, layer + names.feed, feeding)
                if not parallel:
                    feed_norm = put(self, layer + names.feed_norm, Norm(d, eps))
            self.order.append((mixer_norm, mixing, feed_norm, feeding))
        mixers.finish()
        feeds.finish()
        norm, head = put(self, names.final_norm, Norm(d, eps)), embedding
        if not keys("tie_embeddings", habits.tied):
            head_stddev = habits.head_gain * d**-0.5 or 0.02
            head = put(self, names.head, normal(linear(d, vocabulary), head_stddev))
        self.ends = (embedding, first_norm, norm, head)

    def forward(self, tokens):
        """tokens [B, T] → logits [B, T, vocab], every stream from its beginning."""
        embedding, first_norm, norm, head = self.ends
        x = first_norm(embedding(tokens))
        for mixer_norm, mixer, feed_norm, feed in self.order:
            n = mixer_norm(x)
            x = x + self.drop(mixer(n))
            if feed is not None:
                x = x + self.drop(feed(feed_norm(x) if feed_norm is not None else n))
        return F.linear(norm(x), head.weight)

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)


def build(config):
    """The model that a configuration of brood's describes, freshly initialised, and the configuration with its
    defaults written out."""
    keys = Keys(config)
    architecture = keys("architecture", None)
    if architecture == "bdh":
        model = Bdh(keys)
    elif architecture in STACKS:
        model = Stack(keys, *STACKS[architecture])
    else:
        known = ", ".join(["bdh", *STACKS])
        raise ValueError(f"config.json: architecture is {architecture!r}; known are {known}")
    keys.finish()
    return model, keys.effective
