#!/usr/bin/env python3
"""Random checkpoints as Hugging Face transformers and flash-linear-attention write them, read by brood unchanged.

    hf_logits.py --brood path/to/brood [mamba mamba2 rwkv4 rwkv7] [--seeds 3] [--length 48]

For each architecture, seed and configuration: a small model with random weights is written by save_pretrained, brood
reads that folder as it is, and the logits of some random bytes are compared. Fails when they differ by more than 1e-4.

rwkv7 needs flash-linear-attention, whose kernels are Triton's: without a GPU they run in Triton's interpreter, which is
slow. Below 64 bytes the recurrent kernel runs, from there on the chunked one, which the interpreter does not know.

Needs transformers, torch and safetensors; for rwkv7 also flash-linear-attention and einops.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

WITHOUT_GPU = not Path("/dev/nvidiactl").exists()
if WITHOUT_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which importing others may do

import torch  # noqa: E402

TOLERANCE = 1e-4


def mamba(variant):
    from transformers import MambaConfig, MambaForCausalLM

    shape = [dict(hidden_size=32, num_hidden_layers=2, state_size=16),
             dict(hidden_size=40, num_hidden_layers=3, state_size=7, conv_kernel=3, time_step_rank=5),
             dict(hidden_size=24, num_hidden_layers=2, expand=3, tie_word_embeddings=False)][variant % 3]
    return MambaForCausalLM(MambaConfig(vocab_size=264, **shape))


def mamba2(variant):
    from transformers import Mamba2Config, Mamba2ForCausalLM

    shape = [dict(hidden_size=32, num_heads=8, head_dim=8, n_groups=1, state_size=16),
             dict(hidden_size=32, num_heads=8, head_dim=8, n_groups=4, state_size=16),
             dict(hidden_size=48, num_heads=8, head_dim=12, n_groups=2, state_size=20, tie_word_embeddings=True,
                  chunk_size=32)][variant % 3]
    return Mamba2ForCausalLM(Mamba2Config(vocab_size=264, num_hidden_layers=2, **shape))


def rwkv7(variant):
    if WITHOUT_GPU:
        from triton.runtime.autotuner import Autotuner

        Autotuner._bench = lambda self, *a, **k: [0.0, 0.0, 0.0]  # nothing to be measured in an interpreter
    from fla.models.rwkv7 import RWKV7Config, RWKV7ForCausalLM

    shape = [dict(hidden_size=64, head_dim=16, num_hidden_layers=2),
             dict(hidden_size=64, head_dim=32, num_hidden_layers=3, intermediate_size=96)][variant % 2]
    return RWKV7ForCausalLM(RWKV7Config(vocab_size=264, decay_low_rank_dim=8, gate_low_rank_dim=16, a_low_rank_dim=8,
                                        v_low_rank_dim=8, fuse_norm=False, fuse_cross_entropy=False, **shape))


def rwkv4(variant):
    from transformers import RwkvConfig, RwkvForCausalLM

    shape = [dict(hidden_size=32, num_hidden_layers=2), dict(hidden_size=48, num_hidden_layers=3,
                                                             intermediate_size=80)][variant % 2]
    return RwkvForCausalLM(RwkvConfig(vocab_size=264, rescale_every=0, **shape))


MAKERS = dict(mamba=mamba, mamba2=mamba2, rwkv4=rwkv4, rwkv7=rwkv7)


@torch.no_grad()
def compare(brood, make, seed, length, folder):
    """The largest logit, and the largest difference of brood's."""
    from safetensors.torch import load_file

    torch.manual_seed(seed)
    model = make(seed).to("cpu" if WITHOUT_GPU else "cuda").eval()
    for parameter in model.parameters():  # nothing may be mistaken for where it begins
        parameter.add_(torch.randn_like(parameter) * 0.1 * parameter.square().mean().sqrt().clamp(min=0.1))
    model.save_pretrained(folder / "model")
    tokens = torch.randint(0, 256, (1, length))
    (folder / "text").write_bytes(bytes(tokens[0].tolist()))
    theirs = model(tokens.to(model.device), use_cache=False).logits[0].float().cpu()
    subprocess.run([brood, "eval", folder / "model", "--data", folder / "text", "--logits", folder / "logits"],
                   check=True, capture_output=True, text=True)
    ours = load_file(folder / "logits")["logits"]
    return theirs.abs().max().item(), (ours - theirs).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", metavar="ARCHITECTURE", help=f"of {', '.join(MAKERS)}; or all")
    parser.add_argument("--brood", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--length", type=int, default=48)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    rows = []
    for name in arguments.architectures or MAKERS:
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    largest, difference = compare(arguments.brood, MAKERS[name], seed, arguments.length,
                                                  Path(scratch))
                except subprocess.CalledProcessError as error:
                    sys.exit(f"{name}, seed {seed}: {error.stderr.strip()}")
            rows.append(dict(architecture=name, seed=seed, largest_logit=largest, largest_difference=difference))
            print(f"{name:8} seed {seed}: logits up to {largest:7.3f}, largest difference {difference:.1e}",
                  file=sys.stderr, flush=True)
    print(json.dumps(dict(tolerance=TOLERANCE, rows=rows)))
    if any(not row["largest_difference"] <= TOLERANCE for row in rows):
        sys.exit(f"some differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
