"""minGRU (Feng et al. 2024) in its parallel form."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import faded, linear


class MinGru(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, self.heads = place.d_model, keys("n_head", place.d_model)
        self.gate, self.candidate, self.out = linear(d, self.heads, True), linear(d, d), linear(d, d)

    def forward(self, x):
        gate = self.gate(x).mT                                          # [B, heads, T]
        entering = faded(-F.softplus(gate)) * gate.sigmoid()[..., None, :]
        h = torch.einsum("bhts,bshc->bthc", entering, self.candidate(x).unflatten(-1, (self.heads, -1)))
        return self.out(h.flatten(-2))
