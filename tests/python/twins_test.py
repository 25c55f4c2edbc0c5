#!/usr/bin/env python3
"""The PyTorch twins beside the program: the same weights, the same bytes, the same logits and gradients.

    twins_test.py --brood build/brood [NAME ...]

For a tiny model of every architecture: what the program saved is loaded by the twin; the twin moves every weight away
from where it began and saves; the program's logits of 64 bytes must be the twin's, computed in double precision, and
so must its gradients (which the first moment of its first step of AdamW holds) and the weights after that step.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "python"))
import brood_twins  # noqa: E402

T = 64
# Relative to the largest logit, and to the largest gradient of the tensor: some roundings of f32 (6e-8 each) through
# a few layers and 64 steps.
LOGITS, GRADIENTS = 1e-5, 1e-4
RATE, BETA1 = 1e-3, 0.9

MODELS = {
    "attention_and_mamba": dict(architecture="stack", n_layer=3, d_state=5, feed=["swiglu", "none"],
                                mixer=[dict(type="attention", n_head=2, window=96), "mamba"]),
    "bdh": dict(architecture="bdh", d_model=16, n_head=2, n_neuron=64),
    "bdh_decay": dict(architecture="bdh", d_model=16, n_head=2, n_neuron=64, decay=0.9, threshold=0.05),
    "bdh_detached": dict(architecture="bdh", d_model=16, n_head=2, n_neuron=64, detach=True),
    "bdh_joined": dict(architecture="bdh", d_model=16, n_head=2, n_neuron=64, residual="neurons"),
    "bdh_parts": dict(architecture="bdh", d_model=16, n_head=2, n_neuron=64, parts=[20, 12]),
    "gated_deltanet": dict(architecture="gated_deltanet", n_head=2, head_dim=5, feed="none"),
    "gated_deltanet_negative": dict(architecture="gated_deltanet", n_head=2, d_conv=3, allow_neg_eigval=True),
    "mamba": dict(architecture="mamba", d_state=5, tie_embeddings=False),
    "mamba2": dict(architecture="mamba2", d_state=5, head_dim=4, n_groups=2),
    "mamba3": dict(architecture="mamba3", d_state=6, head_dim=4, n_groups=2),
    "mamba3_all_turn": dict(architecture="mamba3", d_state=8, head_dim=6, rope_fraction=1.0),
    "mcsd": dict(architecture="mcsd", n_channel=4, feed="none"),
    "mcsd_swiglu": dict(architecture="mcsd", n_channel=3, slope=6, decay=3),
    "mingru": dict(architecture="mingru", feed="none"),
    "mingru_heads": dict(architecture="mingru", n_head=3),
    "retention": dict(architecture="retention", n_head=2, feed="relu2"),
    "rwkv4": dict(architecture="rwkv4", d_ff=20),
    "rwkv7": dict(architecture="rwkv7", n_layer=3, head_dim=6, d_ff=20, decay_low_rank_dim=3, a_low_rank_dim=3,
                  v_low_rank_dim=2, gate_low_rank_dim=4),
    "rwkv7_second": dict(architecture="stack", n_layer=4, mixer=["retention", "rwkv7"], feed=["none", "rwkv7_ffn"],
                         n_head=2, head_dim=4, norm="layer", embedding_norm=True),
    "s4d": dict(architecture="s4d", d_state=6),
    "s4d_legs": dict(architecture="s4d", d_state=8, init="legs", discretisation="bilinear"),
    "selected": dict(architecture="retention", n_head=2, feed="selected", d_ff=32, threshold=0.1),
    "selected_top_k": dict(architecture="transformer", d_model=16, n_head=2, feed="selected", d_ff=64, top_k=12),
    "switch": dict(architecture="transformer", d_model=16, n_head=2, feed="switch", n_expert=4, d_expert=16),
    "switch_losses": dict(architecture="transformer", d_model=16, n_head=2, feed="switch", n_expert=4, top_k=2,
                          balance="loss", balance_loss=0.3, z_loss=0.1),
    "switch_shared": dict(architecture="stack", mixer="mamba", d_state=5, feed="switch", n_expert=4, top_k=2,
                          n_shared_expert=1, expert="relu2", router="softmax"),
    "transformer": dict(architecture="transformer", d_model=16, n_head=2, window=24),
    "transformer_parallel": dict(architecture="transformer", d_model=16, n_head=2, head_dim=6, parallel=True),
}


class Twins(unittest.TestCase):
    brood = "brood"

    def run_brood(self, *words):
        result = subprocess.run([self.brood, *map(str, words)], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)

    def train(self, model, folder, *options):
        self.run_brood("train", "--model", model, "--data", self.window, "--steps", 1, "--batch", 1, "--context",
                       self.context, "--warmup", 0, "--decay", "constant", "--weight-decay", 0, "--clip", 0, "--beta1", BETA1,
                       "--save", folder, *options)  # the one window that the text has

    def check(self, config):
        with tempfile.TemporaryDirectory() as scratch:
            self.folder = Path(scratch)
            torch.manual_seed(1)
            self.context = min(T, config.get("window", T))
            self.tokens = torch.randint(0, 256, (1, T + 1))
            self.text, self.window = self.folder / "text", self.folder / "window"
            self.text.write_bytes(bytes(self.tokens[0].tolist()))
            self.window.write_bytes(bytes(self.tokens[0, :self.context + 1].tolist()))

            (self.folder / "config.json").write_text(json.dumps(dict(d_model=12, n_layer=2) | config))
            self.train(self.folder / "config.json", self.folder / "born", "--learning-rate", 0)
            model, effective = brood_twins.load(self.folder / "born")
            self.assertEqual(effective, json.loads((self.folder / "born/config.json").read_text()))
            self.compare_logits(model, self.folder / "born")

            self.move(model)
            brood_twins.save(self.folder / "moved", model, effective)
            model, _ = brood_twins.load(self.folder / "moved")  # with the roundings of what was saved
            self.compare_logits(model, self.folder / "moved")
            self.compare_step(model)

    def move(self, model):
        """Nothing stays where it began, no map is so small that it would not be missed."""
        with torch.no_grad():
            for parameter in (*model.parameters(), *model.buffers()):
                size = parameter.square().mean().sqrt()
                if parameter.dim() > 1 and parameter.shape[-1] > 1:
                    size = size.clamp(min=parameter.shape[-1] ** -0.5)
                parameter.add_(torch.randn_like(parameter) * (0.5 * size).clamp(min=0.1))

    def compare_logits(self, model, folder):
        self.run_brood("eval", folder, "--data", self.text, "--logits", self.folder / "logits")
        theirs = load_file(self.folder / "logits")["logits"].double()
        ours = model.double().eval()(self.tokens)[0]
        scale = max(1.0, ours.abs().max().item())
        self.assertLess((ours - theirs).abs().max().item() / scale, LOGITS, "logits")

    def compare_step(self, model):
        self.train(self.folder / "moved", self.folder / "stepped", "--learning-rate", RATE)
        moments = load_file(self.folder / "stepped/optimizer.safetensors")
        after = load_file(self.folder / "stepped/model.safetensors")
        model.zero_grad()
        tokens = self.tokens[:, :self.context + 1]
        loss = F.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:])
        (loss + sum(module.extra_loss for module in model.modules() if hasattr(module, "extra_loss"))).backward()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(BETA1, 0.999), weight_decay=0)
        optimiser.step()
        for module in model.modules():
            if hasattr(module, "after_step"):
                module.after_step()
        for name, buffer in model.named_buffers():
            self.assertLess((buffer - after[name]).abs().max().item(), 1e-6, f"{name} after a step")
        for name, parameter in model.named_parameters():
            gradient = parameter.grad
            scale = gradient.abs().max().item()
            self.assertGreater(scale, 1e-9, f"{name} does not matter")
            theirs = moments[name + ".m"].double().reshape(gradient.shape) / (1 - BETA1)
            self.assertLess((gradient - theirs).abs().max().item() / scale, GRADIENTS, f"gradient of {name}")
            # A first step is ±RATE, whose sign is uncertain only where the gradient is.
            certain = gradient.abs() > 10 * GRADIENTS * scale
            wrong = (parameter - after[name].double().reshape(gradient.shape)).abs()[certain].max().item()
            self.assertLess(wrong, 0.01 * RATE + 1e-6 * before[name].abs().max().item(), f"{name} after a step")


for name, config in MODELS.items():
    setattr(Twins, f"test_{name}", lambda self, config=config: self.check(config))


class Mistakes(unittest.TestCase):
    def test_are_named(self):
        for config, part in ((dict(architecture="mamba", d_modal=3), "d_modal"), (dict(architecture="x"), "'x'"),
                             (dict(architecture="stack", mixer="y"), "'y'")):
            with self.assertRaisesRegex(ValueError, part):
                brood_twins.build(config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brood", required=True)
    parser.add_argument("names", nargs="*", help="of these models only")
    arguments = parser.parse_args()
    Twins.brood = arguments.brood
    torch.set_num_threads(1)
    unittest.main(argv=[sys.argv[0], *(f"Twins.test_{name}" for name in arguments.names)])
