"""Many queries to one key and value (Shazeer 2019), rotary positions, a window."""

import torch
from torch import nn

from .parts import heads_of, into_stream, linear, normal, rotary, together


class Attention(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        self.heads = keys("n_head", 4)
        dim = keys("head_dim", 0) or place.d_model // self.heads
        self.window, self.theta = keys("window", 2048), keys("rope_theta", 10000.0)
        self.q_proj = normal(linear(place.d_model, self.heads * dim))
        self.k_proj = normal(linear(place.d_model, dim))
        self.v_proj = normal(linear(place.d_model, dim))
        self.o_proj = into_stream(linear(self.heads * dim, place.d_model), place, 0.02)

    def forward(self, x):
        q = rotary(heads_of(self.q_proj(x), self.heads), self.theta)
        k, v = rotary(heads_of(self.k_proj(x), 1), self.theta), heads_of(self.v_proj(x), 1)
        ago = torch.arange(x.shape[1], device=x.device)
        ago = ago[:, None] - ago
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        scores = scores.masked_fill((ago < 0) | (ago >= self.window), -torch.inf)
        return self.o_proj(together(scores.softmax(-1) @ v))
