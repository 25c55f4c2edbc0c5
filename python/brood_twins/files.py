"""Model folders, as docs/formats/model-directory.md has them: config.json and model.safetensors."""

import contextlib
import fcntl
import json
import os
import shutil
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


def save(folder, model, config, overwrite=False):
    """Weights and configuration, as brood reads them, by brood's own steps (docs/formats/model-directory.md): whoever looks
    finds the old model or the new one, after a kill, too. What brood saved beside older weights no longer belongs to them
    and is removed; a folder that holds such a memory is refused unless told to overwrite."""
    folder = Path(folder)
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"{folder}: {bad[0]} holds a NaN or an infinity; nothing was saved")
    if not overwrite:
        refuse_memory(folder)
    if (folder / ".save-ready").exists():
        raise ValueError(f"{folder}: a save of brood's was cut off there; let brood finish it, or choose another folder")
    writing, ready, done = (folder / f".save-{step}" for step in ("writing", "ready", "done"))
    for left in (writing, done):  # of a save that was killed
        shutil.rmtree(left, ignore_errors=True)
    writing.mkdir(parents=True)
    (writing / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, writing / "model.safetensors", metadata={"format": "pt"})
    for path in (writing / "config.json", writing / "model.safetensors", writing):
        sync(path)
    os.rename(writing, ready)  # this is the save
    sync(folder)
    with locked(folder):
        for name in ("config.json", "model.safetensors"):
            spare = folder / ".save-spare"
            spare.unlink(missing_ok=True)
            os.link(ready / name, spare)
            os.replace(spare, folder / name)
        for name in COMPANIONS:
            (folder / name).unlink(missing_ok=True)
        sync(folder)
        os.rename(ready, done)
        sync(folder)
    shutil.rmtree(done)


def refuse_memory(folder):
    """ValueError where a save would throw away what a model there remembers."""
    for name in COMPANIONS:
        if (Path(folder) / name).exists():
            raise ValueError(f"{folder}: {name} belongs to the model there and would be lost; overwrite it or choose another folder")


def sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder):
    """No reader of brood's is between two looks at the folder meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
