"""Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024), step by step."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import CausalConv, RmsNorm, into_stream, linear, step_size_bias


class GatedDeltaNet(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, self.heads = place.d_model, keys("n_head", 4)
        self.N = keys("head_dim", max(8, (3 * d // (4 * self.heads) + 7) // 8 * 8))
        self.P = self.N * keys("expand_v", 2)
        taps, self.negative = keys("d_conv", 4), keys("allow_neg_eigval", False)
        wide, values = self.heads * self.N, self.heads * self.P
        self.q_proj, self.k_proj, self.v_proj = linear(d, wide), linear(d, wide), linear(d, values)
        self.a_proj, self.b_proj, self.g_proj = linear(d, self.heads), linear(d, self.heads), linear(d, values)
        self.q_conv1d, self.k_conv1d = CausalConv(wide, taps, False), CausalConv(wide, taps, False)
        self.v_conv1d = CausalConv(values, taps, False)
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1e-3, 16).log())
        self.dt_bias = nn.Parameter(step_size_bias(self.heads))
        self.o_norm = RmsNorm(self.P, place.norm_eps)
        self.o_proj = into_stream(linear(values, d), place)

    def forward(self, x):
        def unit(y):
            return y * torch.rsqrt(y.square().sum(-1, keepdim=True) + 1e-6)

        q, k, v = (F.silu(conv(proj(x))).unflatten(-1, (self.heads, -1))
                   for proj, conv in ((self.q_proj, self.q_conv1d), (self.k_proj, self.k_conv1d),
                                      (self.v_proj, self.v_conv1d)))
        q, k = unit(q) * self.N**-0.5, unit(k)
        beta = self.b_proj(x).sigmoid() * (2 if self.negative else 1)                # [B, T, heads]
        alpha = torch.exp(-self.A_log.exp() * F.softplus(self.a_proj(x) + self.dt_bias))
        S, reads = torch.zeros(len(x), self.heads, self.N, self.P, dtype=x.dtype, device=x.device), []
        for t in range(x.shape[1]):
            S = S * alpha[:, t, :, None, None]
            wrong = v[:, t] - torch.einsum("bhnp,bhn->bhp", S, k[:, t])
            S = S + torch.einsum("bhn,bhp->bhnp", beta[:, t, :, None] * k[:, t], wrong)
            reads.append(torch.einsum("bhnp,bhn->bhp", S, q[:, t]))
        o = self.o_norm(torch.stack(reads, 1)).flatten(-2)
        return self.o_proj(o * F.silu(self.g_proj(x)))
