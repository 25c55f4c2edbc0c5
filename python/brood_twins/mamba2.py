"""Mamba-2: Dao and Gu (2024). The quadratic form of its duality: attention without softmax, faded by the distance."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import CausalConv, RmsNorm, faded, heads_of, into_stream, linear, step_size_bias, together


class Mamba2(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, n, self.groups = place.d_model, keys("d_state", 128), keys("n_groups", 1)
        inner = d * keys("expand", 2)
        self.heads = inner // keys("head_dim", 64)
        self.split = (inner, self.groups * n, self.groups * n)
        self.in_proj = linear(d, inner + sum(self.split) + self.heads)
        self.conv1d = CausalConv(sum(self.split), keys("d_conv", 4))
        self.dt_bias = nn.Parameter(step_size_bias(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RmsNorm(inner, place.norm_eps)
        self.out_proj = into_stream(linear(inner, d), place)

    def forward(self, x):
        z, xbc, dt = self.in_proj(x).split((self.split[0], sum(self.split), self.heads), -1)
        u, B, C = F.silu(self.conv1d(xbc)).split(self.split, -1)
        u, dt = heads_of(u, self.heads), F.softplus(dt + self.dt_bias).mT           # dt [B, heads, T]
        scores = heads_of(C, self.groups) @ heads_of(B, self.groups).mT              # [B, groups, T, T]
        scores = scores.repeat_interleave(self.heads // self.groups, 1)
        scores = scores * faded(dt * -self.A_log.exp()[:, None])
        y = scores @ (dt[..., None] * u) + self.D[:, None, None] * u
        return self.out_proj(self.norm(together(y) * F.silu(z), self.groups))
