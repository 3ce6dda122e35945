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
    "antiphon-asleep": {"model": ASLEEP, "at": [1]},
}
"""Arguments of `split`, by way."""
_ENDLESS = 10**7


def scenario(way: str, seed: int, rate: float) -> Scenario:
    """Return the model cut in two."""
    adam = {"kind": "adam", "lr": rate}
    given = {"model": new_model(seed), "at": 2, **WAYS[way]}
    return antiphon.split(
        env=TimedWindows(TEXT, LENGTH),  # {"id": "antiphon/TextWindows-v0", "text": TEXT, "length": LENGTH}
        objective={"kind": "coding", "target": "following"},
        batch=BATCH,
        steps=_ENDLESS,
        optimiser=adam,
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
