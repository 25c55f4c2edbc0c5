#!/usr/bin/env python3
"""The Dragon Hatchling in plain PyTorch beside brood: a training step, and generation by recomputing the prefix.

The model is written from the equations of arXiv 2509.26507 in the form of its published listing (weights shared by
all layers, strictly causal read without softmax, RoPE on the neuron axis, the residual in d_model). Parameter names
are those of the public reference, so a state_dict of either loads into the other. It is also brood's oracle:
`checkpoint` writes a small random model directory with the logits this file gives.

    torch_bdh.py speed [--brood path/to/brood] [--compile]
    torch_bdh.py checkpoint DIR
"""

import argparse
import json
import math
import os

import torch
import torch.nn.functional as F

import beside

# The reference's default: 25,296,896 parameters.
BDH_25M = dict(n_layer=6, n_embd=256, n_head=4, mlp_internal_dim_multiplier=128, vocab_size=256, dropout=0.1)


class Bdh(torch.nn.Module):
    def __init__(self, n_layer, n_embd, n_head, mlp_internal_dim_multiplier, vocab_size, dropout):
        super().__init__()
        self.n_layer, self.n_head, self.dropout = n_layer, n_head, dropout
        neurons = mlp_internal_dim_multiplier * n_embd // n_head  # N, per head
        normal = lambda *shape: torch.nn.Parameter(torch.randn(shape) * 0.02)
        self.decoder = normal(n_head * neurons, n_embd)
        self.encoder = normal(n_head, n_embd, neurons)
        self.encoder_v = normal(n_head, n_embd, neurons)
        self.lm_head = normal(n_embd, vocab_size)
        self.embed = torch.nn.Embedding(vocab_size, n_embd)
        torch.nn.init.normal_(self.embed.weight, std=0.02)
        # The two members of pair j share one frequency, in cycles per step: (2^16)^(-2j/N) / 2π.
        pair = torch.arange(neurons) // 2 * 2
        self.attn = torch.nn.Module()
        self.attn.register_buffer("freqs", 65536.0 ** (-pair.view(1, 1, 1, -1) / neurons) / (2 * math.pi))

    def forward(self, tokens):
        """tokens [B, T] → logits [B, T, vocab]."""
        T = tokens.shape[1]
        norm = lambda v: F.layer_norm(v, v.shape[-1:])
        cycles = torch.arange(T, device=tokens.device).view(1, 1, T, 1) * self.attn.freqs
        phase = (cycles % 1) * (2 * math.pi)
        cos, sin = torch.cos(phase), torch.sin(phase)

        x = norm(self.embed(tokens)).unsqueeze(1)                    # [B, 1, T, D], shared by the heads
        for _ in range(self.n_layer):
            neurons = F.relu(x @ self.encoder)                       # [B, head, T, N]
            turned = torch.stack((-neurons[..., 1::2], neurons[..., ::2]), dim=-1).flatten(-2)
            keys = (neurons * cos + turned * sin).to(neurons.dtype)
            read = (keys @ keys.mT).tril(diagonal=-1) @ x            # [B, head, T, D]; not its own position
            gated = neurons * F.relu(norm(read) @ self.encoder_v)
            gated = F.dropout(gated, self.dropout, self.training)
            out = gated.transpose(1, 2).flatten(2) @ self.decoder    # [B, T, D]
            x = norm(x + norm(out).unsqueeze(1))
        return x.squeeze(1) @ self.lm_head


def train_tokens_per_second(model, bf16, context, compiled):
    """One AdamW step on one window: forward, cross entropy, backward, update."""
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    tokens = torch.randint(0, 256, (1, context + 1))
    forward = torch.compile(model) if compiled else model

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = forward(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    times = beside.summary(beside.seconds_per_call(step, calls=4, warm_up=3 if compiled else 1))
    return context / times["best"], context / times["median"]


def generate_tokens_per_second(model, bf16, context):
    """One more byte after `context` bytes, as the reference does it: the whole prefix again, then one draw."""
    model.eval()
    tokens = torch.randint(0, 256, (1, context))

    @torch.no_grad()
    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(tokens)[:, -1]
        torch.multinomial(F.softmax(logits.float(), dim=-1), 1)

    times = beside.summary(beside.seconds_per_call(step))
    return 1 / times["best"], 1 / times["median"]


def speed(arguments):
    beside.in_best_environment(arguments.threads)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = Bdh(**BDH_25M)
    rows = []
    for precision in arguments.precisions:
        bf16 = precision == "bf16"

        def add(what, context, speeds):
            row = dict(what=what, context=context, precision=precision, torch_best=speeds[0], torch_median=speeds[1])
            if arguments.brood:
                shape = dict(context=context, batch=1) if what == "train" else dict(depth=context)
                if arguments.activity is not None:
                    shape["activity"] = arguments.activity
                ours = beside.brood_speed(arguments.brood, "bdh-25m", "train" if what == "train" else "decode",
                                          precision=precision, threads=arguments.threads, **shape)
                row["brood"] = ours["tokens_per_second"]
                row["ratio"] = beside.ratio(row["brood"], row["torch_best"])
            rows.append(row)

        add("train", arguments.context, train_tokens_per_second(model, bf16, arguments.context, arguments.compile))
        for context in (9, 200):
            add("generate", context, generate_tokens_per_second(model, bf16, context))
    beside.report("torch bdh-25m", rows, ["what", "context", "precision", "torch_best", "torch_median", "brood",
                                          "ratio"],
                  torch=torch.__version__, threads=arguments.threads, compiled=arguments.compile)


def checkpoint(arguments):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    shape = dict(n_layer=3, n_embd=32, n_head=2, mlp_internal_dim_multiplier=8, vocab_size=256, dropout=0.0)
    model = Bdh(**shape).eval()
    with torch.no_grad():
        for matrix in (model.encoder, model.encoder_v, model.decoder, model.lm_head):
            matrix.mul_(10)  # large enough that an error in any of them shows in the logits
    tokens = torch.randint(0, shape["vocab_size"], (1, 48))
    with torch.no_grad():
        logits = model.double()(tokens)[0].float()
    os.makedirs(arguments.directory, exist_ok=True)
    with open(os.path.join(arguments.directory, "config.json"), "w") as file:
        json.dump(dict(model_type="bdh", **shape), file, indent=2)
    weights = {name: tensor.float().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, os.path.join(arguments.directory, "model.safetensors"))
    save_file({"tokens": tokens[0].int(), "logits": logits},
              os.path.join(arguments.directory, "expected.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    speeds = verbs.add_parser("speed", help="train and generate, tokens per second")
    speeds.add_argument("--brood", help="path of the brood program, to measure both in one run")
    speeds.add_argument("--activity", type=float, help="share of neurons awake in brood; PyTorch computes all of them")
    speeds.add_argument("--threads", type=int, default=2)
    speeds.add_argument("--context", type=int, default=256, help="window of the training step")
    speeds.add_argument("--precisions", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"])
    speeds.add_argument("--compile", action="store_true", help="torch.compile the training step (PyTorch 2)")
    speeds.set_defaults(run=speed)
    writes = verbs.add_parser("checkpoint", help="write a small random model and its logits")
    writes.add_argument("directory")
    writes.set_defaults(run=checkpoint)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
