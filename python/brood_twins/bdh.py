"""Dragon Hatchling (Kosowski et al. 2025, arXiv 2509.26507), in the form of the authors' listing; docs/bdh.md."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .parts import faded, turned


class Bdh(nn.Module):
    def __init__(self, keys):
        super().__init__()
        d, self.n_layer, self.heads = keys("d_model", 256), keys("n_layer", 6), keys("n_head", 4)
        n, vocabulary = keys("n_neuron", 32768), keys("vocab_size", 256)
        self.dropout, self.threshold = keys("dropout", 0.0), keys("threshold", 0.0)
        self.joins, self.detached = keys("residual", "stream") == "neurons", keys("detach", False)
        self.log_decay = math.log(keys("decay", 1.0))
        keys("sparse", "auto")  # a matter of speed
        self.parts = keys("parts", [n // self.heads]) if "parts" in keys.given else [n // self.heads]

        def drawn(*shape):
            return nn.Parameter(torch.randn(shape) * 0.02)

        self.embed = nn.Embedding(vocabulary, d)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.encoder, self.encoder_v = drawn(self.heads, d, n // self.heads), drawn(self.heads, d, n // self.heads)
        self.decoder, self.lm_head = drawn(n, d), drawn(d, vocabulary)

    def forward(self, tokens):
        def norm(v):
            return F.layer_norm(v, v.shape[-1:])

        T = tokens.shape[1]
        cycles = torch.cat([65536.0 ** (-torch.arange(0, n, 2, dtype=torch.float64) / n) for n in self.parts])
        turns = torch.arange(T, dtype=torch.float64)[:, None] * cycles / (2 * math.pi)
        left = faded(torch.full((T,), self.log_decay, dtype=torch.float64)).tril(-1)  # not its own position
        turns, left = turns.to(tokens.device), left.to(tokens.device, self.decoder.dtype)
        x, neurons = norm(self.embed(tokens))[:, None], 0             # [B, 1, T, d]; the heads share it
        for _ in range(self.n_layer):
            awake = F.relu(x @ self.encoder - self.threshold)         # [B, head, T, N]
            neurons = neurons + awake if self.joins else awake
            keys = turned(neurons, turns)
            past = (keys.detach(), x.detach()) if self.detached else (keys, x)
            read = (keys @ past[0].mT * left) @ past[1]
            gated = neurons * F.relu(norm(read) @ self.encoder_v)
            gated = F.dropout(gated, self.dropout, self.training)
            out = norm(gated.transpose(1, 2).flatten(2) @ self.decoder)[:, None]
            x = out if self.joins else norm(x + out)
        return x.squeeze(1) @ self.lm_head
