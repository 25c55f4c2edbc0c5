"""Mamba-1: Gu and Dao (2023), section 3. The recurrence as it stands: slow, but as the paper has it."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import CausalConv, into_stream, linear, step_size_bias


class Mamba(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, self.n = place.d_model, keys("d_state", 16)
        inner, self.rank = d * keys("expand", 2), keys("dt_rank", 0) or -(-d // 16)
        self.in_proj = linear(d, 2 * inner)
        self.conv1d = CausalConv(inner, keys("d_conv", 4))
        self.x_proj = linear(inner, self.rank + 2 * self.n)
        self.dt_proj = linear(self.rank, inner, bias=True)
        self.dt_proj.bias = nn.Parameter(step_size_bias(inner))
        self.A_log = nn.Parameter(torch.arange(1.0, self.n + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = into_stream(linear(inner, d), place)

    def forward(self, x):
        u, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv1d(u))
        delta, B, C = self.x_proj(u).split((self.rank, self.n, self.n), -1)
        delta = F.softplus(self.dt_proj(delta))
        left = torch.exp(delta[..., None] * -self.A_log.exp())        # of h, [B, T, inner, N]
        added = (delta * u)[..., None] * B[:, :, None]
        h, reads = torch.zeros_like(added[:, 0]), []
        for t in range(x.shape[1]):
            h = left[:, t] * h + added[:, t]
            reads.append((h * C[:, t, None]).sum(-1))
        y = torch.stack(reads, 1) + self.D * u
        return self.out_proj(y * F.silu(z))
