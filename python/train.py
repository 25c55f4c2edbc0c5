#!/usr/bin/env python3
"""Trains a twin on bytes, on one device or many, and saves a folder that brood reads.

    python train.py --model model.json --data text --steps 1000 --save model
    torchrun --nproc-per-node 8 train.py --model model.json --data text --steps 10000 --batch 64 --save model
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 train.py ...
    brood eval model --data test.txt

Random windows of the data from a zero state; AdamW with warm-up, cosine decay and a clipped norm; --batch is divided
among the processes. GPUs by NCCL, processors by Gloo. --model is a configuration of brood's or a folder, which is
trained on.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

import brood_twins

# As in brood: what says how fast a state changes, vectors and norms are not drawn towards zero.
NOT_DECAYED = ("A_log", "A_real", "A_imag", "B_bias", "C_bias", "r_k")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="CONFIG|DIR")
    parser.add_argument("--data", required=True, nargs="+", metavar="FILE")
    parser.add_argument("--save", required=True, metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="also a folder that holds the memory of a stream")
    parser.add_argument("--steps", type=int, default=1000, help="updates in all (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="windows a step, of all processes together (%(default)s)")
    parser.add_argument("--context", type=int, default=128, help="bytes of a window (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak (%(default)s)")
    parser.add_argument("--final-rate", type=float, default=0.1, help="share of the peak at the end (%(default)s)")
    parser.add_argument("--warmup", type=int, default=100, help="steps until the peak (%(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="(%(default)s)")
    parser.add_argument("--beta2", type=float, default=0.999, help="(%(default)s)")
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient; 0: any (%(default)s)")
    parser.add_argument("--bf16", action="store_true", help="products in bf16; weights stay f32")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--save-every", type=int, default=1000, help="steps between saves on the way (%(default)s)")
    parser.add_argument("--log-every", type=int, default=20, help="steps between lines (%(default)s)")
    return parser.parse_args()


def processes():
    """This process's rank, how many there are, and its device."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        return 0, 1, device
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size(), device


def load(model):
    if Path(model).is_dir():
        return brood_twins.load(model)
    return brood_twins.build(json.loads(Path(model).read_text()))


def rate(step, arguments):
    """Linear warm-up, then half a cosine down to the final share."""
    if step < arguments.warmup:
        return (step + 1) / arguments.warmup
    along = (step - arguments.warmup) / max(1, arguments.steps - arguments.warmup)
    return arguments.final_rate + (1 - arguments.final_rate) * 0.5 * (1 + math.cos(math.pi * min(along, 1)))


def optimiser_of(model, arguments):
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        vector = sum(extent > 1 for extent in parameter.shape) < 2
        (others if vector or name.endswith(NOT_DECAYED) else decayed).append(parameter)
    groups = [dict(params=decayed, weight_decay=arguments.weight_decay), dict(params=others, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, arguments.beta2))


def main():
    arguments = parse()
    rank, world, device = processes()
    if not arguments.overwrite:
        brood_twins.refuse_memory(arguments.save)
    if arguments.batch % world:
        raise SystemExit(f"train: a batch of {arguments.batch} cannot be divided among {world} processes")
    data = torch.frombuffer(bytearray(b"".join(Path(path).read_bytes() for path in arguments.data)), dtype=torch.uint8)
    if len(data) <= arguments.context:
        raise SystemExit(f"train: {len(data)} bytes of data are too few for a context of {arguments.context}")
    torch.manual_seed(arguments.seed)
    model, config = load(arguments.model)
    if config["vocab_size"] < 256:
        raise SystemExit(f"train: bytes need a vocab_size of 256, not {config['vocab_size']}")
    model.to(device).train()
    whole = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None) \
        if world > 1 else model
    optimiser = optimiser_of(model, arguments)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, arguments))
    draw = torch.Generator().manual_seed(arguments.seed * world + rank + 1)

    began, total = time.monotonic(), torch.zeros((), device=device)
    for step in range(1, arguments.steps + 1):
        starts = torch.randint(len(data) - arguments.context, (arguments.batch // world,), generator=draw)
        rows = torch.stack([data[s:s + arguments.context + 1] for s in starts.tolist()]).to(device).long()
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.bf16):
            logits = whole(rows[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        (loss + sum(module.extra_loss for module in model.modules() if hasattr(module, "extra_loss"))).backward()
        if arguments.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.clip)
        optimiser.step()
        schedule.step()
        for module in model.modules():
            if hasattr(module, "after_step"):
                module.after_step()
        optimiser.zero_grad(set_to_none=True)
        total += loss.detach()
        last = step == arguments.steps
        if step % arguments.log_every == 0 or last:
            mean = total / ((step - 1) % arguments.log_every + 1)
            if world > 1:
                dist.all_reduce(mean)
            nats, total = mean.item() / world, torch.zeros_like(total)
            if not math.isfinite(nats):
                raise SystemExit(f"train: the loss is not a number any more at step {step}")
            if rank == 0:
                speed = step * arguments.batch * arguments.context / (time.monotonic() - began)
                print(f"step {step} of {arguments.steps}: loss {nats:.4f} nats, {speed:,.0f} tokens/s", flush=True)
        if rank == 0 and (step % arguments.save_every == 0 or last):
            brood_twins.save(arguments.save, model, config, overwrite=arguments.overwrite)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
