#!/usr/bin/env python3
"""Mamba and RWKV-7 in llama.cpp beside brood: tokens per second reading a prompt of 512 and decoding 128.

Writes random-weight GGUF files (speed does not depend on the values), runs llama-bench on them and, where the brood
program is given, `brood speed` turn and turn about with it. Needs numpy and gguf (both from PyPI).

    llama_cpp.py --llama-bench path/to/llama-bench [--brood path/to/brood] [--models mamba-130m rwkv7-191m ...]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np

import beside

# Layers, width and vocabulary. mamba-130m and rwkv7-191m have published shapes. mamba-0.8m is small enough for a
# level-2 cache: it shows the fixed cost per token.
SHAPES = {
    "mamba-130m": dict(architecture="mamba", n_layer=24, d_model=768, vocab_size=50280),
    "mamba-0.8m": dict(architecture="mamba", n_layer=6, d_model=128, vocab_size=768),
    "rwkv7-191m": dict(architecture="rwkv7", n_layer=12, d_model=768, vocab_size=65536),
}
PRESETS = ["mamba-130m", "rwkv7-191m"]  # shapes that brood knows by name
D_STATE, D_CONV = 16, 4                 # of Mamba, whose inner width is twice the outer and whose head is tied
RANKS = dict(decay=64, rate=64, value=32, gate=128)  # of RWKV-7 at width 768


class Gguf:
    """A GGUF file of random weights: matrices in the given precision, the rest f32 as the converter keeps it."""

    def __init__(self, path, architecture, n_layer, d_model, vocab_size, precision):
        self.rng, self.precision = np.random.default_rng(0), precision
        self.writer = gguf.GGUFWriter(path, architecture)
        self.writer.add_name(os.path.basename(path))
        self.writer.add_context_length(2**20)
        self.writer.add_embedding_length(d_model)
        self.writer.add_head_count(0)
        self.writer.add_block_count(n_layer)
        self.writer.add_vocab_size(vocab_size)
        self.writer.add_tokenizer_model("no_vocab")
        self.writer.add_file_type(
            gguf.LlamaFileType.MOSTLY_BF16 if precision == "bf16" else gguf.LlamaFileType.ALL_F32)

    def matrix(self, name, rows, columns):
        values = self.rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)
        if self.precision == "bf16":
            kind = gguf.GGMLQuantizationType.BF16
            self.writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            self.writer.add_tensor(name, values)

    def vector(self, name, shape, value=None):
        values = self.rng.random(shape, np.float32) if value is None else np.full(shape, value, np.float32)
        self.writer.add_tensor(name, values)

    def norm(self, name, width):
        self.vector(name + ".weight", width, 1)
        self.vector(name + ".bias", width, 0)

    def close(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def write_mamba(file, n_layer, d_model, vocab_size):
    d_inner, dt_rank = 2 * d_model, -(-d_model // 16)
    file.writer.add_feed_forward_length(0)
    file.writer.add_ssm_conv_kernel(D_CONV)
    file.writer.add_ssm_inner_size(d_inner)
    file.writer.add_ssm_state_size(D_STATE)
    file.writer.add_ssm_time_step_rank(dt_rank)
    file.writer.add_layer_norm_rms_eps(1e-5)
    file.matrix("token_embd.weight", vocab_size, d_model)
    for i in range(n_layer):
        block = f"blk.{i}."
        file.vector(block + "attn_norm.weight", d_model, 1)
        file.matrix(block + "ssm_in.weight", 2 * d_inner, d_model)
        file.vector(block + "ssm_conv1d.weight", (d_inner, D_CONV))
        file.vector(block + "ssm_conv1d.bias", d_inner, 0)
        file.matrix(block + "ssm_x.weight", dt_rank + 2 * D_STATE, d_inner)
        file.matrix(block + "ssm_dt.weight", d_inner, dt_rank)
        # softplus(-4.6) is about 0.01, the middle of the usual range of step sizes.
        file.vector(block + "ssm_dt.bias", d_inner, -4.6)
        a = -np.tile(np.arange(1, D_STATE + 1, dtype=np.float32), (d_inner, 1))
        file.writer.add_tensor(block + "ssm_a", a)
        file.vector(block + "ssm_d", d_inner, 1)
        file.matrix(block + "ssm_out.weight", d_model, d_inner)
    file.vector("output_norm.weight", d_model, 1)


def write_rwkv7(file, n_layer, d_model, vocab_size):
    head_dim, width = 64, 4 * d_model
    file.writer.add_feed_forward_length(width)
    file.writer.add_layer_norm_eps(1e-5)
    file.writer.add_wkv_head_size(head_dim)
    file.writer.add_token_shift_count(2)
    file.writer.add_decay_lora_rank(RANKS["decay"])
    file.writer.add_iclr_lora_rank(RANKS["rate"])
    file.writer.add_value_residual_mix_lora_rank(RANKS["value"])
    file.writer.add_gate_lora_rank(RANKS["gate"])
    file.matrix("token_embd.weight", vocab_size, d_model)
    file.norm("token_embd_norm", d_model)
    for i in range(n_layer):
        block = f"blk.{i}."
        mix = block + "time_mix_"
        for norm in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            file.norm(block + norm, d_model)
        # The first layer's map of values is not used and has the rank of the rate there.
        for letter, rank in (("w", "decay"), ("a", "rate"), ("v", "value" if i > 0 else "rate")):
            file.vector(f"{mix}{letter}0.weight", d_model)
            file.matrix(f"{mix}{letter}1.weight", RANKS[rank], d_model)
            file.matrix(f"{mix}{letter}2.weight", d_model, RANKS[rank])
        file.matrix(mix + "g1.weight", RANKS["gate"], d_model)
        file.matrix(mix + "g2.weight", d_model, RANKS["gate"])
        file.vector(mix + "lerp_fused.weight", (6, 1, 1, d_model))
        for vector in ("k_k", "k_a", "r_k"):
            file.vector(f"{mix}{vector}.weight", d_model)
        for matrix in ("key", "value", "receptance", "output"):
            file.matrix(f"{mix}{matrix}.weight", d_model, d_model)
        file.vector(block + "channel_mix_lerp_k.weight", (1, 1, d_model))
        file.matrix(block + "channel_mix_key.weight", width, d_model)
        file.matrix(block + "channel_mix_value.weight", d_model, width)
    file.norm("output_norm", d_model)
    file.matrix("output.weight", vocab_size, d_model)


def write_gguf(path, architecture, precision, **shape):
    file = Gguf(path, architecture, precision=precision, **shape)
    {"mamba": write_mamba, "rwkv7": write_rwkv7}[architecture](file, **shape)
    file.close()


def write_brood_config(path, shape):
    with open(path, "w") as file:
        json.dump(shape, file)


def llama_bench(program, model, threads, repeats):
    """One run of llama-bench: {"prefill": tokens/s of each repeat, "decode": the same}."""
    command = [program, "-m", model, "-p", "512", "-n", "128", "-r", str(repeats), "-t", str(threads), "-o", "jsonl"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    speeds = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            speeds["prefill" if entry["n_prompt"] else "decode"] = entry["samples_ts"]
            speeds["build"] = entry["build_commit"]
    return speeds


def measure(arguments, shape_name, precision, threads, model, brood_model):
    """Rows for prefill and decode: each side's tokens/s over all rounds, best and median."""
    theirs, ours = {"prefill": [], "decode": []}, {"prefill": [], "decode": []}
    for _ in range(arguments.rounds):
        speeds = llama_bench(arguments.llama_bench, model, threads, arguments.repeats)
        for what in theirs:
            theirs[what] += speeds[what]
            if arguments.brood:
                result = beside.brood_speed(
                    arguments.brood, brood_model, what, precision=precision, threads=threads)
                ours[what].append(result["tokens_per_second"])
    rows = []
    for what in theirs:
        row = dict(model=shape_name, what=what, precision=precision, threads=threads,
                   llama_best=max(theirs[what]), llama_median=float(np.median(theirs[what])))
        if ours[what]:
            row.update(brood_best=max(ours[what]), brood_median=float(np.median(ours[what])))
            row["ratio"] = beside.ratio(row["brood_median"], row["llama_median"])
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-bench", help="path of the llama-bench program")
    parser.add_argument("--brood", help="path of the brood program, to measure both in one run")
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2, help="how often the two take turns")
    parser.add_argument("--repeats", type=int, default=3, help="repeats inside one llama-bench run")
    parser.add_argument("--write-only", metavar="DIR", help="write the GGUF files there and measure nothing")
    arguments = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.write_only or scratch
        for name in arguments.models:
            brood_model = name
            if name not in PRESETS:
                brood_model = os.path.join(directory, name + ".json")
                write_brood_config(brood_model, SHAPES[name])
            for precision in arguments.precisions:
                path = os.path.join(directory, f"{name}-{precision}.gguf")
                write_gguf(path, **SHAPES[name], precision=precision)
                for threads in arguments.threads if not arguments.write_only else []:
                    rows += measure(arguments, name, precision, threads, path, brood_model)
    if not arguments.write_only:
        beside.report("llama.cpp", rows, ["model", "what", "precision", "threads", "llama_best", "llama_median",
                                          "brood_best", "brood_median", "ratio"])


if __name__ == "__main__":
    main()
