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
from task import BATCH, LENGTH, TEXT, new_model, save
from timed_windows import TimedWindows

import antiphon
from antiphon import Simulation
from antiphon.scenarios import Scenario

WAYS: dict[str, dict[str, Any]] = {
    "antiphon": {},
    "antiphon-local": {"gradient": {"kind": "local", "target": "following"}},
    "antiphon-free": {},
}
"""Arguments of `split`, by way."""
_ENDLESS = 10**7


def scenario(way: str, seed: int, rate: float) -> Scenario:
    """Return the model cut in two."""
    adam = {"kind": "adam", "lr": rate}
    return antiphon.split(
        new_model(seed),
        at=2,
        env=TimedWindows(TEXT, LENGTH),  # {"id": "antiphon/TextWindows-v0", "text": TEXT, "length": LENGTH}
        inputs={"tokens": "tokens"},
        objective={"kind": "coding", "target": "following"},
        batch=BATCH,
        steps=_ENDLESS,
        optimiser=adam,
        predictor=adam,
        **WAYS[way],
    )


def main() -> None:
    """Train until SIGINT, and write the parameters."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    way, seed = settings["way"], settings["seed"]
    parts = {"count": 2, "ray": settings["address"]}
    parts |= {"mode": "free"} if way == "antiphon-free" else {}
    with Simulation(scenario(way, seed, settings["lr"]), seed=seed, parts=parts) as simulation:
        print(*simulation.scenario.channels, file=sys.stderr)
        Clock(settings["clock"]).open()  # the steps before have measured the line
        with suppress(KeyboardInterrupt):
            simulation.run(progress=False)
        save(dict(antiphon.join(simulation).named_parameters()), settings["state"])


if __name__ == "__main__":
    main()
