#!/usr/bin/env python3
"""Mamba in llama.cpp beside Mamba in brood: tokens per second reading a prompt of 512 and decoding 128.

Writes random-weight GGUF files (speed does not depend on the values), runs llama-bench on them and, where the brood
program is given, `brood speed` turn and turn about with it. Needs numpy and gguf (both from PyPI).

    llama_mamba.py --llama-bench path/to/llama-bench [--brood path/to/brood] [--models mamba-130m mamba-0.8m]
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

# Layers, width and vocabulary; state of 16 per channel, expansion 2, convolution of 4, tied head. mamba-130m has the
# published shape. mamba-0.8m is small enough for a level-2 cache: it shows the fixed cost per token.
SHAPES = {
    "mamba-130m": dict(n_layer=24, d_model=768, vocab_size=50280),
    "mamba-0.8m": dict(n_layer=6, d_model=128, vocab_size=768),
}
D_STATE, D_CONV = 16, 4


def write_gguf(path, n_layer, d_model, vocab_size, precision):
    """Writes a Mamba with random weights: matrices in the given precision, the rest f32 as the converter keeps it."""
    rng = np.random.default_rng(0)
    d_inner, dt_rank = 2 * d_model, -(-d_model // 16)
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name(os.path.basename(path))
    writer.add_context_length(2**20)
    writer.add_embedding_length(d_model)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(n_layer)
    writer.add_ssm_conv_kernel(D_CONV)
    writer.add_ssm_inner_size(d_inner)
    writer.add_ssm_state_size(D_STATE)
    writer.add_ssm_time_step_rank(dt_rank)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab_size)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16 if precision == "bf16" else gguf.LlamaFileType.ALL_F32)

    def matrix(name, rows, columns):
        values = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)
        if precision == "bf16":
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)

    matrix("token_embd.weight", vocab_size, d_model)
    for i in range(n_layer):
        block = f"blk.{i}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(d_model, np.float32))
        matrix(block + "ssm_in.weight", 2 * d_inner, d_model)
        writer.add_tensor(block + "ssm_conv1d.weight", rng.standard_normal((d_inner, D_CONV), np.float32) / 2)
        writer.add_tensor(block + "ssm_conv1d.bias", np.zeros(d_inner, np.float32))
        matrix(block + "ssm_x.weight", dt_rank + 2 * D_STATE, d_inner)
        matrix(block + "ssm_dt.weight", d_inner, dt_rank)
        # softplus(-4.6) is about 0.01, the middle of the usual range of step sizes.
        writer.add_tensor(block + "ssm_dt.bias", np.full(d_inner, -4.6, np.float32))
        a = -np.tile(np.arange(1, D_STATE + 1, dtype=np.float32), (d_inner, 1))
        writer.add_tensor(block + "ssm_a", a)
        writer.add_tensor(block + "ssm_d", np.ones(d_inner, np.float32))
        matrix(block + "ssm_out.weight", d_model, d_inner)
    writer.add_tensor("output_norm.weight", np.ones(d_model, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_brood_config(path, n_layer, d_model, vocab_size):
    config = dict(architecture="mamba", n_layer=n_layer, d_model=d_model, vocab_size=vocab_size)
    with open(path, "w") as file:
        json.dump(config, file)


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
            if name != "mamba-130m":  # not a preset of brood: the same shape as a configuration
                brood_model = os.path.join(directory, name + ".json")
                write_brood_config(brood_model, **SHAPES[name])
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
