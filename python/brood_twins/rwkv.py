"""RWKV-4 (Peng et al. 2023) and RWKV-7 (Peng et al. 2025), each a time mix and a channel mix."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .parts import linear, normal, one_step_earlier


def along(d):
    return torch.arange(d) / d


def zero(map_):
    nn.init.zeros_(map_.weight)
    return map_


def uniform(map_, gain):
    map_.weight.data *= gain
    return map_


class Depth:
    """From 0 at the first layer to 1 at the last, and from 1 to nearly 0."""

    def __init__(self, place):
        self.rising = place.layer / max(1, place.n_layer - 1)
        self.falling = 1 - place.layer / place.n_layer


class Rwkv4(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, depth = place.d_model, Depth(place)
        mixed = along(d) ** depth.falling
        self.time_mix_key = nn.Parameter(mixed.clone().view(1, 1, d))
        self.time_mix_value = nn.Parameter(mixed.add(0.3 * depth.rising).view(1, 1, d))
        self.time_mix_receptance = nn.Parameter(mixed.sqrt().view(1, 1, d))
        line = torch.linspace(0, 1, d)
        self.time_decay = nn.Parameter(-5 + 8 * line ** (0.7 + 1.3 * depth.rising))
        self.time_first = nn.Parameter(math.log(0.3) + 0.5 * ((torch.arange(d) + 1) % 3 - 1))
        self.key, self.receptance, self.output = (zero(linear(d, d)) for _ in range(3))
        self.value = normal(linear(d, d), d**-0.5)

    def forward(self, x):
        before = one_step_earlier(x)
        r, k, v = (m(torch.lerp(before, x, mix)) for m, mix in ((self.receptance, self.time_mix_receptance),
                                                               (self.key, self.time_mix_key),
                                                               (self.value, self.time_mix_value)))
        # A mean over the past with the weights e^{k_i − (t−1−i)w}, and e^{u + k_t} for the present: a softmax.
        ago = torch.arange(x.shape[1], device=x.device)
        ago = (ago[:, None] - ago)[..., None]
        fade = torch.where(ago > 0, -self.time_decay.exp() * (ago - 1), self.time_first)
        weights = (k[:, None] + fade.masked_fill(ago < 0, -torch.inf)).softmax(2)   # [B, t, i, d]
        average = torch.einsum("btid,bid->btd", weights, v)
        return self.output(r.sigmoid() * average)


class Rwkv4Ffn(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, d_ff = place.d_model, keys("d_ff", 0) or 4 * place.d_model
        mixed = (along(d) ** Depth(place).falling).view(1, 1, d)
        self.time_mix_key, self.time_mix_receptance = nn.Parameter(mixed.clone()), nn.Parameter(mixed.clone())
        self.key, self.receptance = normal(linear(d, d_ff), d**-0.5), zero(linear(d, d))
        self.value = zero(linear(d_ff, d))

    def forward(self, x):
        before = one_step_earlier(x)
        k = self.key(torch.lerp(before, x, self.time_mix_key))
        r = self.receptance(torch.lerp(before, x, self.time_mix_receptance))
        return r.sigmoid() * self.value(F.relu(k).square())


class LowRank(nn.Module):
    """A map through few channels: out·f(in·x) + bias."""

    def __init__(self, d, rank, between, bias=None):
        super().__init__()
        self.lora = nn.Sequential(zero(linear(d, rank)), between, linear(rank, d, bias is not None))
        normal(self.lora[2], 0.1 * d**-0.5)
        if bias is not None:
            self.lora[2].bias = nn.Parameter(bias)

    def forward(self, x):
        return self.lora(x)


class Rwkv7(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, depth, self.N = place.d_model, Depth(place), keys("head_dim", math.gcd(place.d_model, 64))
        self.heads = d // self.N
        for name, power in dict(r=0.2, w=0.9, k=0.7, v=0.7, a=0.9, g=0.2).items():
            share = nn.Parameter((1 - along(d) ** (power * depth.falling)).view(1, 1, d))
            setattr(self, f"x_{name}", share)

        def rank(key, factor):
            return keys(key, 0) or max(32, 32 * round(factor * d**0.5 / 32))

        line = torch.linspace(0, 1, d) if d > 1 else torch.zeros(1)
        middle = (self.N - 1) / 2
        zigzag = (torch.arange(d) % self.N - middle) / max(middle, 0.5)
        zigzag, linear_at = zigzag * zigzag.abs(), line - 0.5
        decay = -6 + 6 * line ** (1 + depth.rising**0.3)
        self.w_lora = LowRank(d, rank("decay_low_rank_dim", 2.5), nn.Tanh(), decay + 0.5 + 2.5 * zigzag)
        self.a_lora = LowRank(d, rank("a_low_rank_dim", 2.5), nn.Identity(), -0.19 + 0.3 * zigzag + 0.4 * linear_at)
        v_rank = rank("v_low_rank_dim", 1.7)
        self.first = place.shared.setdefault("first", (self,))  # a tuple: not a module of this one's
        if self.first[0] is not self:
            self.v_lora = LowRank(d, v_rank, nn.Identity(), 0.73 - 0.4 * linear_at)
        self.g_lora = LowRank(d, rank("gate_low_rank_dim", 5), nn.Sigmoid())
        self.k_k, self.k_a = nn.Parameter(0.71 - 0.1 * linear_at), nn.Parameter(torch.full((d,), 1.02))
        self.r_k = nn.Parameter(torch.full((self.heads, self.N), -0.04))
        self.r_proj, self.v_proj = uniform(linear(d, d), 0.5), uniform(linear(d, d), 0.5)
        self.k_proj, self.o_proj = uniform(linear(d, d), 0.05), zero(linear(d, d))
        self.g_norm = nn.GroupNorm(self.heads, d, eps=self.N * place.norm_eps)
        nn.init.constant_(self.g_norm.weight, ((place.layer + 1) / place.n_layer) ** 0.7)

    def forward(self, x):
        before = one_step_earlier(x)
        xr, xw, xk, xv, xa, xg = (torch.lerp(x, before, getattr(self, f"x_{name}")) for name in "rwkvag")
        r, k, v = self.r_proj(xr), self.k_proj(xk), self.v_proj(xv)
        w = torch.exp(-math.exp(-0.5) * self.w_lora(xw).sigmoid())
        a, g = self.a_lora(xa).sigmoid(), self.g_lora(xg)
        if self.first[0] is self:
            self.values = v  # of this pass, for the layers above
        else:
            v = torch.lerp(v, self.first[0].values, self.v_lora(xv).sigmoid())
        r, w, k, v, a = (y.unflatten(-1, (self.heads, self.N)) for y in (r, w, k, v, a))
        kappa = F.normalize(k * self.k_k.view(self.heads, self.N), dim=-1)
        k = k * (1 + (a - 1) * self.k_a.view(self.heads, self.N))
        S, reads = torch.zeros(*k.shape[:1], *k.shape[2:], self.N, dtype=x.dtype, device=x.device), []
        for t in range(x.shape[1]):
            erased = torch.einsum("bhij,bhj->bhi", S, kappa[:, t])
            S = (S * w[:, t, :, None] - torch.einsum("bhi,bhj->bhij", erased, kappa[:, t] * a[:, t])
                 + torch.einsum("bhi,bhj->bhij", v[:, t], k[:, t]))
            reads.append(torch.einsum("bhij,bhj->bhi", S, r[:, t]))
        y = self.g_norm(torch.stack(reads, 1).flatten(-2).flatten(0, 1)).view_as(x)
        y = y + ((r * k * self.r_k).sum(-1, keepdim=True) * v).flatten(-2)
        return self.o_proj(y * g)


class Rwkv7Ffn(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, d_ff = place.d_model, keys("d_ff", 0) or 4 * place.d_model
        self.x_k = nn.Parameter(1 - along(d) ** (Depth(place).falling ** 4))
        self.key, self.value = uniform(linear(d, d_ff), 0.5), zero(linear(d_ff, d))

    def forward(self, x):
        return self.value(F.relu(self.key(torch.lerp(x, one_step_earlier(x), self.x_k))).square())
