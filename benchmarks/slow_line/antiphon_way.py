"""The process that starts a run of antiphon in parts; `slow_line.py` starts it with its settings as a JSON object.

The parts are processes of a Ray cluster, one in each namespace. What a user would write is `scenario` and `main`.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from clock import Clock
from task import BATCH, LENGTH, new_model, save, text_name
from timed_windows import TimedWindows

import antiphon
from antiphon import Simulation
from antiphon.scenarios import Scenario

WAYS: dict[str, dict[str, Any]] = {
    "antiphon": {},
    "antiphon-nadam": {"coupling": "delayed"},
}
"""Arguments of `split`, by way."""
_ENDLESS = 10**7
_WARM_UP = {"kind": "constant", "warmup": 50 / _ENDLESS}
"""The rate rises over the first 50 steps, as gradients that come late ask for."""


def nadam(rate: float) -> dict[str, Any]:
    """Return the optimiser of an asynchronous pipeline, momentum .99 (Ajanthan et al. 2025, 2505.01099).

    Their weights of the forward pass are kept for the backward pass, ours are replayed with the present ones.
    """
    kind = {"kind": "NAdam", "betas": [0.99, 0.999], "decoupled_weight_decay": True, "weight_decay": 0.01}
    return {**kind, "lr": rate, "clip": 10.0, "schedule": _WARM_UP}


def scenario(
    way: str, seed: int, rate: float, *, parts: int = 2, link: Mapping[str, Any] | None = None
) -> Scenario:
    """Return the model cut in parts; link: a delay and bits, in place of `auto`."""
    adam = {"kind": "adam", "lr": rate}
    return antiphon.split(
        new_model(seed),
        parts,
        # {"id": "antiphon/TextWindows-v0", "text": text_name(), "length": LENGTH}
        env=TimedWindows(text_name(), LENGTH),
        objective={"kind": "coding", "target": "following"},
        batch=BATCH,
        steps=_ENDLESS,
        optimiser=nadam(rate) if way == "antiphon-nadam" else adam,
        predictor=adam,
        **WAYS[way],
        **(link or {}),
    )


def main() -> None:
    """Train until SIGINT, and write the link that was chosen, and the parameters."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    torch.set_num_threads(1)
    way, seed = settings["way"], settings["seed"]
    count = settings["machines"]
    given = scenario(way, seed, settings["lr"], parts=count)
    with Simulation(given, seed=seed, parts={"count": count, "ray": settings["address"]}) as simulation:
        Clock(settings["clock"]).open()  # the steps before have measured the line
        with suppress(KeyboardInterrupt):
            simulation.run(progress=False)
        link = simulation.scenario.channels[0].link
        chosen = json.dumps({"delay": link.delay, "bits": link.bits})
        Path(settings["state"]).with_suffix(".json").write_text(chosen, encoding="utf-8")
        save(dict(antiphon.join(simulation).named_parameters()), settings["state"])


if __name__ == "__main__":
    main()
