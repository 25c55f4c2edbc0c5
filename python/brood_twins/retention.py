"""Retention (Sun et al. 2023) in its parallel form, with a gate and a norm of each head."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import RmsNorm, faded, heads_of, into_stream, linear, rotary


class Retention(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, self.heads, self.theta = place.d_model, keys("n_head", 4), keys("rope_theta", 10000.0)
        values = d * keys("expand_v", 2)
        self.q_proj, self.k_proj = linear(d, d), linear(d, d)
        self.v_proj, self.g_proj = linear(d, values), linear(d, values)
        self.g_norm = RmsNorm(values // self.heads, place.norm_eps)
        self.o_proj = into_stream(linear(values, d), place)

    def forward(self, x):
        q, k = (rotary(heads_of(p(x), self.heads), self.theta) for p in (self.q_proj, self.k_proj))
        v = heads_of(self.v_proj(x), self.heads)
        gamma = 1 - 2.0 ** (-5 - torch.arange(self.heads, device=x.device, dtype=torch.float64))
        left = faded(gamma.log()[:, None].expand(-1, x.shape[1])).to(x.dtype)
        o = (q @ k.mT) * q.shape[-1] ** -0.5 * left @ v
        o = self.g_norm(o).transpose(1, 2).flatten(-2)
        return self.o_proj(o * F.silu(self.g_proj(x)))
