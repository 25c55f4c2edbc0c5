"""S4D (Gu, Gupta, Goel and Ré 2022) as the convolution that it is."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def frequencies(law, n):
    """Im A of n modes: two simple laws, or the eigenvalues of HiPPO-LegS's normal part (Gu, Goel and Ré 2022)."""
    if law == "lin":
        return math.pi * torch.arange(n)
    if law == "inv":
        return 2 * n / math.pi * (2 * n / (2 * torch.arange(n) + 1) - 1)
    i = torch.arange(2 * n, dtype=torch.float64)
    u = (2 * i + 1).sqrt()
    skew = -0.5 * (u[:, None] * u).tril(-1)
    return torch.linalg.eigvals(skew - skew.mT).imag.sort(descending=True).values[:n]


class Kernel(nn.Module):
    """K_l = 2 Re Σ_n C_n B̄_n Ā_n^l, [d, T]"""

    def __init__(self, d, n, law, method):
        super().__init__()
        self.bilinear = method == "bilinear"
        self.log_dt = nn.Parameter(torch.empty(d).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_A_real = nn.Parameter(torch.full((d, n), math.log(0.5)))
        self.A_imag = nn.Parameter(frequencies(law, n).float().repeat(d, 1))
        self.C = nn.Parameter(torch.randn(d, n, 2) * 0.5**0.5)

    def forward(self, T):
        a, dt = torch.complex(-self.log_A_real.exp(), self.A_imag), self.log_dt.exp()[:, None]
        if self.bilinear:
            left, entry = (1 + dt * a / 2) / (1 - dt * a / 2), dt / (1 - dt * a / 2)
        else:
            left, entry = (dt * a).exp(), ((dt * a).exp() - 1) / a
        powers = left[..., None] ** torch.arange(T, device=left.device)
        return 2 * torch.einsum("dn,dnt->dt", torch.view_as_complex(self.C) * entry, powers).real


class S4d(nn.Module):
    def __init__(self, keys, place):
        super().__init__()
        d, n = place.d_model, keys("d_state", 64) // 2
        self.kernel = Kernel(d, n, keys("init", "lin"), keys("discretisation", "zoh"))
        self.D = nn.Parameter(torch.randn(d))
        self.output_linear = nn.Sequential(nn.Conv1d(d, 2 * d, 1), nn.GLU(dim=-2))

    def forward(self, x):
        u, T = x.mT, x.shape[1]
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * T) * torch.fft.rfft(self.kernel(T), n=2 * T), n=2 * T)[..., :T]
        return self.output_linear(F.gelu(y + self.D[:, None] * u)).mT
