"""brood's architectures in plain PyTorch: the same tensor names, the same config.json, the same numbers.

    import brood_twins
    model, config = brood_twins.load("book")        # a folder that brood saved
    logits = model(tokens)                          # [B, T] → [B, T, vocab]
    brood_twins.save("book", model, config)         # brood goes on from there
"""

from .files import load, refuse_memory, save
from .stack import build

__all__ = ["build", "load", "refuse_memory", "save"]
