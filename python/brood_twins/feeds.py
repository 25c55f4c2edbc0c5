"""Feeds: what looks across channels."""

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
