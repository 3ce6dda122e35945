"""The scenarios of the library at a small size, with the values of their parameters that reach other mechanisms."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.scenarios import Scenario, catalogue

SMALL: dict[str, dict[str, Any]] = {
    "big-corporation": {"agents": 8, "readouts": 2, "hold": 3, "size": 3, "batch": 4},
    "capture-flag": {"width": 5, "unroll": 4, "limit": 6, "batch": 4},
    "cartpole-team": {"width": 5, "units": 4, "unroll": 4, "batch": 4},
    "char-lm": {"hidden": 4, "units": 3, "batch": 4},
    "cifar10-cnn": {"data": "shapes", "filters": 2, "predictor": 4, "batch": 4},
    "cifar10-mlp": {"data": "shapes", "depth": 3, "width": 6, "batch": 4},
    "clockwork": {"hidden": 3, "size": 2, "units": 3, "unroll": 2, "batch": 4},
    "copy": {"bits": 2, "hidden": 4, "units": 3, "threshold": 5.0, "max_length": 3, "batch": 4},
    "corporation": {"agents": 6, "readouts": 2, "hold": 3, "width": 5, "size": 3, "batch": 4},
    "deep-mlp": {"depth": 5, "width": 6, "batch": 4},
    "digits-mlp": {"width": 6, "batch": 4},
    "eyes": {"width": 6, "size": 3, "batch": 4},
    "feudal-keydoor": {"width": 5, "period": 2, "goals": 2, "unroll": 4, "limit": 5, "batch": 4},
    "hyperplane": {"points": 4},
    "lossy": {"width": 6, "size": 3, "hold": 4, "delay": 1, "batch": 4},
    "mnist-cnn": {"filters": 2, "predictor": 4, "batch": 4},
    "mnist-mlp": {"width": 6, "batch": 4},
    "mnist-split": {"width": 6, "batch": 4},
    "pipelined": {"width": 6, "batch": 4},
    "referential-game": {"width": 6, "units": 5, "size": 4, "batch": 4},
    "referential-reward": {"width": 6, "units": 5, "size": 4, "batch": 4},
    "repeat-copy": {"bits": 2, "hidden": 4, "units": 3, "threshold": 5.0, "max_length": 3, "batch": 4},
    "ring-of-many": {"agents": 6, "readouts": 2, "hold": 5, "delay": 2, "width": 5, "size": 3, "batch": 4},
    "sparse-updates": {"width": 6, "batch": 4, "p_update": 0.6},
    "speaker-listener": {"width": 5, "units": 4, "unroll": 3, "epochs": 2, "batch": 4},
    "three-timescales": {"hidden": 4, "size": 2, "units": 3, "batch": 4},
    "cartpole-prior": {"width": 3, "size": 2, "prior": 4, "period": 2, "unroll": 4, "batch": 4},
    "two-timescales": {"T": 2, "hidden": 4, "size": 2, "units": 3, "batch": 4},
    "unlocked": {"depth": 3, "width": 6, "units": 5, "batch": 4},
}
MORE: dict[str, list[dict[str, Any]]] = {
    "char-lm": [{"T": 2}, {"cell": "rnn"}, {"gradient": "sobolev_label", "T": 2}],
    "cifar10-cnn": [{"gradient": "sobolev_label"}],
    "clockwork": [
        {"read": "last", "coupling": "delayed"},
        {"gradient": "sobolev", "delay": 3},
        {"unroll": 1, "cell": "leaky"},
    ],
    "copy": [
        {"T": 2, "auxiliary": 0.5},
        {"cell": "gru", "cell_norm": "layer"},
        {"cell": "rnn", "cell_norm": "batch"},
        {"gradient": "sobolev", "T": 1},
        {"gradient": "linear"},
    ],
    "corporation": [
        {"coupling": "delayed"},
        {"context": "adjacent"},
        {"context": "adjacent", "gradient": "local"},
        {"gradient": "mlp"},
        {"unroll": 2},
        {"unroll": "episode"},
        {"drop": 0.4, "delay": 2, "input": "mlp", "p_update": 0.6, "hold": 5},
        {"context": "adjacent", "gradient": "sobolev", "relay": "sobolev"},
    ],
    "digits-mlp": [
        {"coupling": "delayed"},
        {"delay": 1},
        {"coupling": "delayed", "delay": 2},
        {"gradient": "mlp", "context": []},
        {"gradient": "critic"},
        {"gradient": "sobolev", "delay": 1},
        {"gradient": "sobolev_label"},
    ],
    "lossy": [{"noise": 0.5, "input": "linear"}],
    "mnist-cnn": [{"coupling": "delayed"}, {"gradient": "conv"}, {"gradient": "sobolev"}],
    "sparse-updates": [{"coupling": "locked", "depth": 3}],
    "three-timescales": [{"read": "concat"}, {"coupling": "delayed"}],
    "two-timescales": [
        {"coupling": "delayed"},
        {"memory_auxiliary": 1.0},
        {"memory_gradient": "sobolev", "cell": "gru", "cell_norm": "batch"},
        {"gradient": "critic", "cell": "leaky"},
    ],
    "unlocked": [{"gradient": "sobolev_label", "input": "linear"}],
}
"""Other mechanisms that a scenario's parameters reach."""
ACTING = ("capture-flag", "cartpole-prior", "cartpole-team", "feudal-keydoor", "speaker-listener")
"""Scenarios of agents that act in a world."""
TIMED = ("char-lm", "clockwork", "copy", "repeat-copy", "three-timescales", "two-timescales", *ACTING)
"""Scenarios of agents with a state or a world: they run for ever, and so do their compositions."""


def resolved(name: str, values: dict[str, Any]) -> Scenario:
    """Return a scenario of the library at a small size, with these values of its parameters."""
    return catalogue()[name].resolve(values={**SMALL[name], **values})


def write_pictures(folder: Path) -> None:
    """Write two dozen made-up pictures in MNIST's format."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 48), ("t10k", 12)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        image_header = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(image_header + pixels.tobytes())
        label_header = struct.pack(">BBBBI", 0, 0, 8, 1, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(label_header + labels.tobytes())
