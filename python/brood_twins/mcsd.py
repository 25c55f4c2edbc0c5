"""MCSD, the mixer of Yan (RockAI 2024), as docs/mcsd.md reconstructs it."""

import torch
from torch import nn

from .parts import RmsNorm, faded, into_stream, linear


class PerChannel(nn.Module):
    """Columns in channels, each with a map of its own: weight [d, d/channels]."""

    def __init__(self, d, channels):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(linear(d // channels, d).weight.detach())

    def forward(self, x):
        maps = self.weight.unflatten(0, (self.channels, -1))
        return torch.einsum("btci,coi->btco", x.unflatten(-1, (self.channels, -1)), maps)


class Section(nn.Module):
    def __init__(self, d, channels, place):
        super().__init__()
        self.u, self.v = PerChannel(d, channels), PerChannel(d, channels)
        self.out = into_stream(linear(d, d), place)
        self.out.weight.data *= 0.5**0.5  # one of two maps whose results are added


class Mcsd(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, channels = place.d_model, keys("n_channel", 4)
        i = torch.arange(1, channels + 1, dtype=torch.float64)
        self.slopes = -(2.0 ** (-keys("slope", 8) * i / channels))
        self.decays = torch.log1p(-(2.0 ** -(keys("decay", 5) + i - 1)))
        self.slope, self.decay = Section(d, channels, place), Section(d, channels, place)
        self.decay.norm = RmsNorm(d, place.norm_eps)

    def forward(self, x):
        def past(log_decay, v, mean):
            left = faded(log_decay.to(x.device)[:, None].expand(-1, x.shape[1]))
            if mean:
                left = left / left.sum(-1, keepdim=True)
            return torch.einsum("cts,bsco->btco", left.to(x.dtype), v)

        slope = self.slope.u(x) * past(self.slopes, self.slope.v(x), True)
        decay = past(self.decays, self.decay.v(x), False).flatten(-2)
        decay = self.decay.u(x).flatten(-2) * self.decay.norm(decay)
        return self.slope.out(slope.flatten(-2)) + self.decay.out(decay)
