"""The process that starts a run of antiphon in two parts; `slow_line.py` starts it with its settings as a JSON object.

The parts are processes of a Ray cluster, one in each namespace. What a user would write is `scenario` and `main`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import torch
from clock import Clock
from task import BATCH, LENGTH, TEXT, WIDTH, new_model, save
from timed_windows import TimedWindows
from torch import nn

import antiphon
from antiphon import Simulation
from antiphon.envs.datasets import texts
from antiphon.scenarios import Scenario

ASLEEP = nn.Sequential(
    nn.Embedding(texts.load(TEXT).classes, WIDTH), nn.Linear(WIDTH, texts.load(TEXT).classes)
)
"""A model whose messages are as large as those of `new_model`, and which takes no time."""
WAYS: dict[str, dict[str, Any]] = {
    "antiphon": {},
    "antiphon-local": {"gradient": {"kind": "local", "target": "following"}},
    "antiphon-free": {},
    "antiphon-nadam": {"coupling": "delayed"},
    "antiphon-muon": {"coupling": "delayed"},
    "antiphon-asleep": {"model": ASLEEP, "at": [1]},
}
"""Arguments of `split`, by way."""
_ENDLESS = 10**7
_WARM_UP = {"kind": "constant", "warmup": 50 / _ENDLESS}
"""The rate rises over the first 50 steps, as gradients that come late ask for."""


def optimisers(rate: float) -> dict[str, dict[str, Any]]:
    """Return by way the optimiser that an asynchronous pipeline needs, with what its paper says of it.

    `NAdam`: momentum .99 (Ajanthan et al. 2025, 2505.01099; their weights of the forward pass are kept for the backward pass, ours are
    replayed with the present ones). `Muon`: matrices by the root mean square of Adam's changes (Zmushko et al. 2026, 2606.30634).
    """
    nadam = {"kind": "NAdam", "betas": [0.99, 0.999], "decoupled_weight_decay": True, "weight_decay": 0.01}
    muon = {"kind": "Muon", "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.01}
    adam = {"axes": 1, "kind": "AdamW", "lr": rate, "weight_decay": 0.01}
    own = {"lr": rate, "clip": 10.0, "schedule": _WARM_UP}
    return {"antiphon-nadam": {**nadam, **own}, "antiphon-muon": {**muon, **own, "groups": [adam]}}


def scenario(way: str, seed: int, rate: float) -> Scenario:
    """Return the model cut in two."""
    adam = {"kind": "adam", "lr": rate}
    given = {"model": new_model(seed), "at": 2, **WAYS[way]}
    return antiphon.split(
        env=TimedWindows(TEXT, LENGTH),  # {"id": "antiphon/TextWindows-v0", "text": TEXT, "length": LENGTH}
        objective={"kind": "coding", "target": "following"},
        batch=BATCH,
        steps=_ENDLESS,
        optimiser=optimisers(rate).get(way, adam),
        predictor=adam,
        **given,
    )


def main() -> None:
    """Train until SIGINT, and write the parameters."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    way, seed = settings["way"], settings["seed"]
    parts = {"count": 2, "ray": settings["address"]}
    parts |= {"mode": "free"} if way == "antiphon-free" else {}
    with Simulation(scenario(way, seed, settings["lr"]), seed=seed, parts=parts) as simulation:
        Clock(settings["clock"]).open()  # the steps before have measured the line
        with suppress(KeyboardInterrupt):
            simulation.run(progress=False)
        save(dict(antiphon.join(simulation).named_parameters()), settings["state"])


if __name__ == "__main__":
    main()
