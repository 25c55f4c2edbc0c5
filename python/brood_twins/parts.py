"""What several blocks need: small maps, norms, rotations, fading sums."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn


class Keys:
    """A configuration while it is read: keys("d_state", 16) is the value, or the default, which is written down."""

    def __init__(self, given, where="config.json"):
        self.given, self.where, self.effective = dict(given), where, {}

    def __call__(self, key, default):
        self.effective.setdefault(key, self.given.get(key, default))
        return self.effective[key]

    def finish(self):
        unknown = sorted(set(self.given) - set(self.effective))
        if unknown:
            raise ValueError(f"{self.where}: nobody knows the key {unknown[0]!r}; remove it")


@dataclass
class Place:
    """Where in a stack a block stands. `shared` belongs to all of its kind in this stack."""

    layer: int
    n_layer: int
    d_model: int
    norm_eps: float
    shared: dict = field(default_factory=dict)


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)  # begins as U(±1/√inputs)


def normal(map_, stddev=0.02):
    nn.init.normal_(map_.weight, std=stddev)
    return map_


def into_stream(map_, place, stddev=None):
    """The last map of a block: the sum over the layers keeps its size however many there are."""
    if stddev is not None:
        return normal(map_, stddev / math.sqrt(2 * place.n_layer))
    with torch.no_grad():
        map_.weight /= math.sqrt(place.n_layer)
    return map_


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(width))

    def forward(self, x, groups=1):
        x = x.unflatten(-1, (groups, -1))
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x.flatten(-2) * self.weight


class CausalConv(nn.Conv1d):
    """Depthwise along time; no step sees a later one. [B, T, C] → [B, T, C]"""

    def __init__(self, channels, taps, bias=True):
        super().__init__(channels, channels, taps, groups=channels, bias=bias)

    def forward(self, x):
        return super().forward(F.pad(x.transpose(1, 2), (self.kernel_size[0] - 1, 0))).transpose(1, 2)


def one_step_earlier(x):
    return F.pad(x, (0, 0, 1, -1))


def heads_of(x, heads):
    """[B, T, heads·N] → [B, heads, T, N]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def together(x):
    """[B, heads, T, N] → [B, T, heads·N]"""
    return x.transpose(1, 2).flatten(-2)


def turned(x, turns):
    """Pairs (2i, 2i+1) of the last extent turned by turns[..., i] whole turns."""
    angle = turns.double() % 1 * (2 * math.pi)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def rotary(x, theta):
    """x [..., T, N]: each pair turned by its position, the first ones fastest (Su et al. 2021)."""
    T, N = x.shape[-2:]
    pairs = torch.arange(0, N, 2, device=x.device, dtype=torch.float64)
    positions = torch.arange(T, device=x.device, dtype=torch.float64)
    return turned(x, positions[:, None] * theta ** (-pairs / N) / (2 * math.pi))


def faded(log_decay):
    """[..., T] logarithms of what a step leaves of the past → [..., T, T]: what step t still has of step s ≤ t."""
    sums = log_decay.cumsum(-1)
    between = sums[..., :, None] - sums[..., None, :]
    past = torch.ones(between.shape[-2:], dtype=torch.bool, device=between.device).tril()
    return between.masked_fill(~past, -torch.inf).exp()


def step_size_bias(size):
    """Biases under a softplus that give step sizes spread evenly, in their logarithm, over 1e-3 to 1e-1."""
    steps = torch.empty(size).uniform_(math.log(1e-3), math.log(1e-1)).exp()
    return steps + torch.log(-torch.expm1(-steps))
