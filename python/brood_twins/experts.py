"""Feeds of which each step computes a part: sparse experts (Switch and its descendants), and selected neurons."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from .parts import into_stream, linear, normal


def truncated(map_):
    """Fedus, Zoph and Shazeer (2021): a tenth of the usual variance, nothing beyond two deviations."""
    stddev = (0.1 / map_.weight.shape[1]) ** 0.5
    nn.init.trunc_normal_(map_.weight, std=stddev, a=-2 * stddev, b=2 * stddev)
    return map_


class Expert(nn.Module):
    def __init__(self, d, width, gated):
        super().__init__()
        if gated:
            self.gate_proj = truncated(linear(d, width))
        self.up_proj, self.down_proj = truncated(linear(d, width)), truncated(linear(width, d))

    def forward(self, x):
        h = self.up_proj(x)
        h = F.silu(self.gate_proj(x)) * h if hasattr(self, "gate_proj") else F.relu(h).square()
        return self.down_proj(h)


class Switch(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, n, self.top_k = place.d_model, keys("n_expert", 8), keys("top_k", 1)
        shared, gated = keys("n_shared_expert", 0), keys("expert", "swiglu") == "swiglu"
        dense = (d * 8 // 3 + 31) // 32 * 32 if gated else 4 * d
        width = keys("d_expert", 0) or max(16, (dense // (self.top_k + shared) + 15) // 16 * 16)
        keys.effective["d_expert"] = width
        self.softmax = keys("router", "sigmoid") == "softmax"
        self.renormalise = self.top_k > 1 and keys("renormalise", True)
        balance = keys("balance", "bias")
        self.balance_rate = keys("balance_rate", 1e-3) if balance == "bias" else 0
        self.balance_loss = keys("balance_loss", 1e-2) if balance == "loss" else 0
        self.z_loss = keys("z_loss", 0.0)
        self.gate = truncated(linear(d, n))
        if self.balance_rate:  # no gradient; after_step() moves it
            self.gate.register_buffer("e_score_correction_bias", torch.zeros(n))
        self.experts = nn.ModuleList(Expert(d, width, gated) for _ in range(n))
        if shared:
            self.shared_experts = Expert(d, shared * width, gated)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):  # a router is never rounded to bf16
            z = self.gate(x.to(self.gate.weight.dtype))
        scores = z.softmax(-1) if self.softmax else z.sigmoid()
        preferred = scores + self.gate.e_score_correction_bias if self.balance_rate else scores
        chosen = torch.zeros_like(scores).scatter(-1, preferred.topk(self.top_k).indices, 1)
        weights = scores * chosen
        if self.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        self.note(z, scores, chosen.detach())
        y = self.shared_experts(x) if hasattr(self, "shared_experts") else torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            rows = (chosen[..., e] > 0).nonzero(as_tuple=True)
            out = weights[rows][:, e, None] * expert(x[rows])
            y = y.index_put(rows, out.to(y.dtype), accumulate=True)
        return y

    def note(self, z, scores, chosen):
        """What the choices of this pass cost (to be added to a mean loss), and how many rows each expert got."""
        self.loads = chosen.flatten(0, -2).sum(0)
        shares = (scores / scores.sum(-1, keepdim=True)).flatten(0, -2).mean(0)
        self.extra_loss = self.balance_loss * len(shares) * (self.loads / self.loads.sum() * shares).sum()
        self.extra_loss = self.extra_loss + self.z_loss * z.logsumexp(-1).square().mean()

    @torch.no_grad()
    def after_step(self):
        """Experts that got more rows than the mean, of all processes, are preferred a little less."""
        if self.balance_rate:
            loads = self.loads.clone()
            if dist.is_initialized():
                dist.all_reduce(loads)
            bias = self.gate.e_score_correction_bias
            bias -= self.balance_rate * (loads - loads.mean()).sign()
            bias -= bias.mean()


class Selected(nn.Module):
    """A gated feed whose gate wakes few neurons. The twin computes all and multiplies by zero."""

    def __init__(self, keys, place):
        super().__init__()
        d = place.d_model
        d_ff = keys("d_ff", 0) or (d * 8 // 3 + 31) // 32 * 32
        self.top_k, self.threshold = keys("top_k", 0), keys("threshold", 0.0)
        keys("sparse", "auto")  # a matter of speed
        self.gate_proj, self.up_proj = normal(linear(d, d_ff)), normal(linear(d, d_ff))
        self.down_proj = into_stream(linear(d_ff, d), place, 0.02)

    def forward(self, x):
        g = F.relu(self.gate_proj(x) - self.threshold)
        if self.top_k:
            g = g * torch.zeros_like(g).scatter(-1, g.topk(self.top_k).indices, 1)
        return self.down_proj(g * self.up_proj(x))
