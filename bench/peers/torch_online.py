#!/usr/bin/env python3
"""Learning one step at a time in eager PyTorch: what brood's live learner is measured against.

step:  one byte through 6 residual layers (128 → 512, ReLU, 512 → 128), forward, backward, SGD: microseconds. With
       the byte embedding and head 851,968 parameters; the same net as bench/online_by_hand_bench.cc.
mamba: the shape of brood's mamba-s learning a stream in chunks of 16 bytes with AdamW, its state carried and detached
       between chunks: bytes per second.

    torch_online.py [--what step mamba] [--brood path/to/brood] [--threads 1 2] [--compile]
"""

import argparse

import torch
import torch.nn.functional as F

import beside
from torch_mamba import Mamba

WIDTH, HIDDEN, LAYERS, VOCAB = 128, 512, 6, 256
MAMBA_S = dict(layers=4, width=128, state=16, vocab=256)
CHUNK = 16


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = torch.nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


def fastest_optimiser(kind, parameters, **settings):
    """The fused form where this PyTorch has one for the CPU, else the form that takes all tensors in one call."""
    try:
        return kind(parameters, fused=True, **settings)
    except (TypeError, RuntimeError):
        return kind(parameters, foreach=True, **settings)


def step_times(compiled):
    net = torch.nn.Sequential(torch.nn.Embedding(VOCAB, WIDTH), *(Residual() for _ in range(LAYERS)),
                              torch.nn.Linear(WIDTH, VOCAB, bias=False))
    assert sum(p.numel() for p in net.parameters()) == 851_968
    optimiser = fastest_optimiser(torch.optim.SGD, net.parameters(), lr=1e-3)
    forward = torch.compile(net) if compiled else net
    byte, following = torch.tensor([17]), torch.tensor([42])

    def step():
        F.cross_entropy(forward(byte), following).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return beside.seconds_per_call(step, at_least=2.0, warm_up=200)


def mamba_chunk_times(compiled):
    model = Mamba(**MAMBA_S)
    optimiser = fastest_optimiser(torch.optim.AdamW, model.parameters(), lr=1e-3)
    forward = torch.compile(model) if compiled else model
    stream = torch.randint(0, MAMBA_S["vocab"], (1, CHUNK + 1))
    memory = model.empty_memory(1)

    def chunk():
        nonlocal memory
        logits, after = forward(stream[:, :-1], memory)
        F.cross_entropy(logits[0], stream[0, 1:]).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        memory = [tuple(part.detach() for part in parts) for parts in after]

    return beside.seconds_per_call(chunk, at_least=2.0, warm_up=10)


def measure(what, threads, arguments):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    times = beside.summary((step_times if what == "step" else mamba_chunk_times)(arguments.compile))
    units = 1 if what == "step" else CHUNK
    row = dict(what=what, threads=threads, torch_best_us=1e6 * times["best"], torch_median_us=1e6 * times["median"],
               torch_bytes_per_second=units / times["best"])
    if arguments.brood and what == "mamba":
        ours = beside.brood_speed(arguments.brood, "mamba-s", "live", threads=threads, chunk=CHUNK, rehearsals=0)
        row["brood_bytes_per_second"] = ours["tokens_per_second"]
        row["ratio"] = beside.ratio(row["brood_bytes_per_second"], row["torch_bytes_per_second"])
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=["step", "mamba"], default=["step", "mamba"])
    parser.add_argument("--brood", help="path of the brood program, to measure both in one run")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--compile", action="store_true", help="torch.compile the model (PyTorch 2)")
    arguments = parser.parse_args()
    beside.in_best_environment(max(arguments.threads))
    rows = [measure(what, threads, arguments) for what in arguments.what for threads in arguments.threads]
    beside.report("torch online", rows, ["what", "threads", "torch_best_us", "torch_median_us",
                                         "torch_bytes_per_second", "brood_bytes_per_second", "ratio"],
                  torch=torch.__version__, compiled=arguments.compile)


if __name__ == "__main__":
    main()
