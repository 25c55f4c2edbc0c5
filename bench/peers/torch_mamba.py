#!/usr/bin/env python3
"""Mamba-1 in plain PyTorch: brood's oracle for loading public checkpoints, and the model torch_online.py trains.

Written from the equations of arXiv 2312.00752 (selective scan, section 3.2), with the tensor names and config.json
of the public Hugging Face checkpoints. Writes a small random model directory with the logits this file gives:

    torch_mamba.py DIR [--layers 3 --width 64 --state 16 --vocab 264 --length 48]

DIR then holds config.json, model.safetensors and expected.safetensors ("tokens" [T], "logits" [T, vocab]); brood's
logits for the tokens should agree to 1e-4. Needs torch and safetensors.
"""

import argparse
import json
import math
import os

import torch
import torch.nn.functional as F


class RmsNorm(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Mixer(torch.nn.Module):
    """One selective state space: h ← exp(ΔA)∘h + (Δ∘x)Bᵀ, y = hC + D∘x, with Δ, B, C computed from x."""

    def __init__(self, width, state, taps=4, expand=2):
        super().__init__()
        inner, self.state, self.rank = expand * width, state, math.ceil(width / 16)
        self.in_proj = torch.nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = torch.nn.Conv1d(inner, inner, taps, groups=inner)
        self.x_proj = torch.nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = torch.nn.Linear(self.rank, inner)
        self.A_log = torch.nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = torch.nn.Parameter(torch.ones(inner))
        self.out_proj = torch.nn.Linear(inner, width, bias=False)
        # softplus(bias) is spread evenly in its logarithm over the usual step sizes, 1e-3 to 1e-1.
        steps = torch.exp(torch.empty(inner).uniform_(math.log(1e-3), math.log(1e-1)))
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def empty_memory(self, batch):
        inner = self.A_log.shape[0]
        zeros = lambda *shape: torch.zeros(shape, dtype=self.D.dtype, device=self.D.device)
        return zeros(batch, inner, self.conv1d.kernel_size[0] - 1), zeros(batch, inner, self.state)

    def forward(self, u, memory):
        """u [B, T, width], memory (last inputs of the convolution, h) → output [B, T, width], memory."""
        window, h = memory
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        padded = torch.cat((window, x.transpose(1, 2)), dim=-1)
        x = F.silu(self.conv1d(padded)).transpose(1, 2)
        low, B, C = self.x_proj(x).split((self.rank, self.state, self.state), dim=-1)
        delta = F.softplus(self.dt_proj(low))                                        # [B, T, inner]
        decay = torch.exp(delta.unsqueeze(-1) * -torch.exp(self.A_log))              # [B, T, inner, state]
        write = (delta * x).unsqueeze(-1) * B.unsqueeze(2)
        outputs = []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + write[:, t]
            outputs.append((h @ C[:, t].unsqueeze(-1)).squeeze(-1))
        y = torch.stack(outputs, dim=1) + self.D * x
        taps = window.shape[-1]
        return self.out_proj(y * F.silu(gate)), (padded[..., padded.shape[-1] - taps:], h)


class Layer(torch.nn.Module):
    def __init__(self, width, state):
        super().__init__()
        self.norm = RmsNorm(width)
        self.mixer = Mixer(width, state)


class Mamba(torch.nn.Module):
    """The head is the embedding. Parameter names are those of the public checkpoints."""

    def __init__(self, layers, width, state, vocab):
        super().__init__()
        self.backbone = torch.nn.Module()
        self.backbone.embeddings = torch.nn.Embedding(vocab, width)
        self.backbone.layers = torch.nn.ModuleList(Layer(width, state) for _ in range(layers))
        self.backbone.norm_f = RmsNorm(width)
        torch.nn.init.normal_(self.backbone.embeddings.weight, std=0.02)

    def empty_memory(self, batch):
        return [layer.mixer.empty_memory(batch) for layer in self.backbone.layers]

    def forward(self, tokens, memory):
        """tokens [B, T], memory of each layer → logits [B, T, vocab], memory."""
        x, after = self.backbone.embeddings(tokens), []
        for layer, before in zip(self.backbone.layers, memory):
            out, left = layer.mixer(layer.norm(x), before)
            x = x + out
            after.append(left)
        return self.backbone.norm_f(x) @ self.backbone.embeddings.weight.t(), after


def public_config(layers, width, state, vocab):
    return dict(
        architectures=["MambaForCausalLM"], model_type="mamba", hidden_size=width, d_model=width,
        intermediate_size=2 * width, d_inner=2 * width, num_hidden_layers=layers, n_layer=layers, state_size=state,
        conv_kernel=4, expand=2, time_step_rank=math.ceil(width / 16), time_step_min=0.001, time_step_max=0.1,
        time_step_floor=1e-4, time_step_scale=1.0, time_step_init_scheme="random", hidden_act="silu",
        layer_norm_epsilon=1e-5, rms_norm=True, residual_in_fp32=True, use_bias=False, use_conv_bias=True,
        initializer_range=0.1, rescale_prenorm_residual=False, vocab_size=vocab, pad_vocab_size_multiple=8,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, torch_dtype="float32", tie_word_embeddings=True)


def main():
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=264)
    parser.add_argument("--length", type=int, default=48)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    shape = (arguments.layers, arguments.width, arguments.state, arguments.vocab)
    model = Mamba(*shape).eval()
    with torch.no_grad():
        model.backbone.embeddings.weight.mul_(10)  # logits of order 1, so that an error shows
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", "norm_f.weight", ".D", ".A_log")):
                parameter.add_(torch.randn_like(parameter) * 0.1)  # none may be mistaken for its initial constant
    tokens = torch.randint(0, arguments.vocab, (1, arguments.length))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        exact = model.double()
        logits = exact(tokens, exact.empty_memory(1))[0][0].float()
    os.makedirs(arguments.directory, exist_ok=True)
    with open(os.path.join(arguments.directory, "config.json"), "w") as file:
        json.dump(public_config(*shape), file, indent=2)
    save_file(weights, os.path.join(arguments.directory, "model.safetensors"), metadata={"format": "pt"})
    save_file({"tokens": tokens[0].int(), "logits": logits.contiguous()},
              os.path.join(arguments.directory, "expected.safetensors"))


if __name__ == "__main__":
    main()
