"""Model folders, as docs/formats/model-directory.md has them: config.json and model.safetensors."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .stack import build

# What brood keeps beside the weights and what other weights make stale.
COMPANIONS = ("state.safetensors", "optimizer.safetensors")


def load(folder):
    """The model in a folder and its configuration. Names and shapes must be the twin's, up to extents of 1."""
    folder = Path(folder)
    if (folder / ".save-ready").is_dir():  # killed in the middle of a save, after which this is what counts
        folder = folder / ".save-ready"
    model, config = build(json.loads((folder / "config.json").read_text()))
    stored, own = load_file(folder / "model.safetensors"), model.state_dict()
    if set(stored) != set(own):
        raise ValueError(f"{folder}: {sorted(set(stored) ^ set(own))[0]} is in one of model.safetensors and the twin alone")
    for name, tensor in stored.items():
        if [n for n in tensor.shape if n != 1] != [n for n in own[name].shape if n != 1]:
            raise ValueError(f"{folder}: {name} is {list(tensor.shape)}, but the twin needs {list(own[name].shape)}")
    model.load_state_dict({name: tensor.float().reshape(own[name].shape) for name, tensor in stored.items()})
    return model, config


def save(folder, model, config):
    """Weights and configuration, as brood reads them. What it saved beside older weights no longer belongs to them
    and is removed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / ".save-ready").exists():
        raise ValueError(f"{folder}: a save of brood's was cut off there; let brood finish it, or choose another folder")
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"{folder}: {bad[0]} holds a NaN or an infinity; nothing was saved")
    (folder / "config.json.part").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, folder / "model.safetensors.part", metadata={"format": "pt"})
    for name in COMPANIONS:
        (folder / name).unlink(missing_ok=True)
    for name in ("config.json", "model.safetensors"):
        os.replace(folder / f"{name}.part", folder / name)
