"""Mamba-3 with one input and one output (arXiv 2603.15569), in its quadratic form."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import RmsNorm, faded, heads_of, into_stream, linear, step_size_bias, together, turned


class Mamba3(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, self.n, self.groups = place.d_model, keys("d_state", 128), keys("n_groups", 1)
        inner = d * keys("expand", 2)
        self.heads, self.angles = inner // keys("head_dim", 64), int(self.n * keys("rope_fraction", 0.5)) // 2
        self.split = (inner, inner, self.groups * self.n, self.groups * self.n, *[self.heads] * 3, self.angles)
        self.in_proj = linear(d, sum(self.split))
        self.dt_bias = nn.Parameter(step_size_bias(self.heads))
        self.B_bias = nn.Parameter(torch.ones(self.heads, 1, self.n))
        self.C_bias = nn.Parameter(torch.ones(self.heads, 1, self.n))
        self.B_norm, self.C_norm = RmsNorm(self.n, 1e-5), RmsNorm(self.n, 1e-5)
        self.D = nn.Parameter(torch.ones(self.heads))
        self.out_proj = into_stream(linear(inner, d), place)

    def forward(self, x):
        z, v, B, C, dt, a, share, angle = self.in_proj(x).split(self.split, -1)
        dt, share, v = F.softplus(dt + self.dt_bias).mT, share.sigmoid().mT, heads_of(v, self.heads)
        rate = torch.where(a >= 0, 1 + a, 1 / (1 - a.clamp(max=0))).clamp(min=1e-4).mT
        turn = angle.tanh()[:, None] / 2 * dt[..., None]               # of a whole turn; [B, heads, T, angles]
        phase = turn.cumsum(-2)

        def key(y, norm, bias):
            y = norm(heads_of(y, self.groups)).repeat_interleave(self.heads // self.groups, 1) + bias
            return torch.cat((turned(y[..., :2 * self.angles], phase), y[..., 2 * self.angles:]), -1)

        k, q = key(B, self.B_norm, self.B_bias), key(C, self.C_norm, self.C_bias)
        # The trapezoid: a step enters with λΔ at once, and with the next step's (1 − λ)Δ when that comes.
        now = share * dt
        later = now + F.pad(((1 - share) * dt)[..., 1:], (0, 1))
        left = faded(-rate * dt)
        weights = left.tril(-1) * later[..., None, :] + torch.diag_embed(now)
        y = (q @ k.mT * weights) @ v + self.D[:, None, None] * v
        return self.out_proj(together(y) * F.silu(z))
