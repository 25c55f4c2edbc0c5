"""Feeds: what looks across channels."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import into_stream, linear, normal


class SwiGlu(nn.Module):
    """Shazeer 2020."""

    def __init__(self, keys, place):
        super().__init__()
        d = place.d_model
        d_ff = keys("d_ff", 0) or (d * 8 // 3 + 31) // 32 * 32
        self.gate_proj, self.up_proj = normal(linear(d, d_ff)), normal(linear(d, d_ff))
        self.down_proj = into_stream(linear(d_ff, d), place, 0.02)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Relu2(nn.Module):
    """So et al. 2021."""

    def __init__(self, keys, place):
        super().__init__()
        d_ff = keys("d_ff", 0) or 4 * place.d_model
        self.up_proj = normal(linear(place.d_model, d_ff))
        self.down_proj = into_stream(linear(d_ff, place.d_model), place, 0.02)

    def forward(self, x):
        return self.down_proj(F.relu(self.up_proj(x)).square())


class Selected(nn.Module):
    """Neurons whose gate is above a threshold, or of these the strongest (docs/selected.md)."""

    def __init__(self, keys, place):
        super().__init__()
        d = place.d_model
        d_ff = keys("d_ff", 0) or (d * 8 // 3 + 31) // 32 * 32
        self.top_k, self.threshold, _ = keys("top_k", 0), keys("threshold", 0.0), keys("sparse", "auto")
        self.gate_proj, self.up_proj = normal(linear(d, d_ff)), normal(linear(d, d_ff))
        self.down_proj = into_stream(linear(d_ff, d), place, 0.02)

    def forward(self, x):
        g = F.relu(self.gate_proj(x) - self.threshold)
        if self.top_k:
            g = torch.zeros_like(g).scatter(-1, *reversed(g.topk(self.top_k)))
        return self.down_proj(g * self.up_proj(x))


class Switch(nn.Module):
    """Sparse experts (docs/experts.md). All of them are computed and those not chosen weigh nothing."""

    def __init__(self, keys, place):
        super().__init__()
        d, n = place.d_model, keys("n_expert", 8)
        self.top_k, shared = keys("top_k", 1), keys("n_shared_expert", 0)
        expert = keys("expert", "swiglu")
        dense = (d * 8 // 3 + 31) // 32 * 32 if expert == "swiglu" else 4 * d
        width = keys("d_expert", 0) or max(16, (dense // (self.top_k + shared) + 15) // 16 * 16)
        keys.effective["d_expert"] = width
        self.softmax = keys("router", "sigmoid") == "softmax"
        self.renormalise = self.top_k > 1 and keys("renormalise", True)
        balance = keys("balance", "bias")
        self.rate = keys("balance_rate", 1e-3) if balance == "bias" else 0
        if balance == "loss" or keys("z_loss", 0.0):
            raise ValueError("config.json: losses of a router are not among what the twins know; balance by bias")
        make = dict(swiglu=SwiGlu, relu2=Relu2)[expert]
        self.gate = linear(d, n)
        if self.rate:
            self.gate.register_buffer("e_score_correction_bias", torch.zeros(n))
        self.experts = nn.ModuleList(make(lambda *_: width, place) for _ in range(n))
        self.shared_experts = make(lambda *_: shared * width, place) if shared else None
        for p in self.parameters():
            size = (0.1 / p.shape[1]) ** 0.5
            nn.init.trunc_normal_(p, std=size, a=-2 * size, b=2 * size)

    def forward(self, x):
        s = self.gate(x)
        s = s.softmax(-1) if self.softmax else s.sigmoid()
        bias = self.gate.e_score_correction_bias if self.rate else 0
        chosen = (s + bias).topk(self.top_k).indices
        w = s.gather(-1, chosen)
        if self.renormalise:
            w = w / w.sum(-1, keepdim=True)
        if self.rate and self.training and torch.is_grad_enabled():
            load = chosen.flatten().bincount(minlength=len(self.experts)).to(bias)
            bias -= self.rate * (load - load.mean()).sign()
            bias -= bias.mean()
        w = torch.zeros_like(s).scatter(-1, chosen, w)
        y = sum(w[..., e : e + 1] * expert(x) for e, expert in enumerate(self.experts))
        return y if self.shared_experts is None else y + self.shared_experts(x)
