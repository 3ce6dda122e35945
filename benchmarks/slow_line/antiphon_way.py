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
from costs import Shape
from task import STANDARD, new_model, save, text_name
from timed_windows import TimedWindows
from torch import nn

import antiphon
from antiphon import Simulation
from antiphon.envs.datasets import texts
from antiphon.scenarios import Scenario

WAYS: dict[str, dict[str, Any]] = {
    "antiphon": {},
    "antiphon+muon": {},
    "antiphon-local": {"gradient": {"kind": "local", "target": "following"}},
    "antiphon-free": {},
    "antiphon-nadam": {"coupling": "delayed"},
    "antiphon-muon": {"coupling": "delayed"},
}
"""Arguments of `split`, by way."""
_ENDLESS = 10**7
_WARM_UP = {"kind": "constant", "warmup": 50 / _ENDLESS}
"""The rate rises over the first 50 steps, as gradients that come late ask for."""


def optimisers(rate: float) -> dict[str, dict[str, Any]]:
    """Return by way the optimiser that is not Adam; of an asynchronous pipeline with what its paper says of it.

    `NAdam`: momentum .99 (Ajanthan et al. 2025, 2505.01099; their weights of the forward pass are kept for the backward pass, ours are
    replayed with the present ones). `Muon`: matrices by the root mean square of Adam's changes (Zmushko et al. 2026, 2606.30634).
    """
    nadam = {"kind": "NAdam", "betas": [0.99, 0.999], "decoupled_weight_decay": True, "weight_decay": 0.01}
    muon = {"kind": "Muon", "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.01}
    adam = {"axes": 1, "kind": "AdamW", "lr": rate, "weight_decay": 0.01}
    own = {"lr": rate, "clip": 10.0, "schedule": _WARM_UP}
    by_muon = {**muon, "lr": rate, "groups": [adam]}
    return {"antiphon-nadam": {**nadam, **own}, "antiphon-muon": {**by_muon, **own}, "antiphon+muon": by_muon}


def without_blocks(width: int, parts: int) -> dict[str, Any]:
    """Return a model whose messages are as large as those of `new_model`, which takes no time, and its cuts, for `split`."""
    classes = texts.load(text_name()).classes
    between = (nn.Linear(width, width) for _ in range(parts - 2))
    layers = nn.Sequential(nn.Embedding(classes, width), *between, nn.Linear(width, classes))
    return {"model": layers, "at": list(range(1, parts))}


def scenario(
    way: str,
    seed: int,
    rate: float,
    shape: Shape = STANDARD,
    *,
    parts: int = 2,
    asleep: bool = False,
    link: Mapping[str, Any] | None = None,
) -> Scenario:
    """Return the model cut in parts; asleep: its blocks left out; link: a delay and bits, in place of `auto`."""
    adam = {"kind": "adam", "lr": rate}
    model = without_blocks(shape.width, parts) if asleep else {"model": new_model(seed, shape), "at": parts}
    given = {**model, **WAYS[way], **(link or {})}
    return antiphon.split(
        # {"id": "antiphon/TextWindows-v0", "text": text_name(), "length": shape.length}
        env=TimedWindows(text_name(), shape.length),
        objective={"kind": "coding", "target": "following"},
        batch=shape.batch,
        steps=_ENDLESS,
        optimiser=optimisers(rate).get(way, adam),
        predictor=optimisers(rate)[way] if way == "antiphon+muon" else adam,
        **given,
    )


def main() -> None:
    """Train until SIGINT, and write the link that was chosen, and the parameters."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    torch.set_num_threads(1)
    way, seed = settings["way"], settings["seed"]
    count = settings["machines"]
    parts = {"count": count, "ray": settings["address"]}
    parts |= {"mode": "free"} if way == "antiphon-free" else {}
    shape, asleep = Shape(**settings["shape"]), bool(settings["flops"])
    given = scenario(way, seed, settings["lr"], shape, parts=count, asleep=asleep)
    with Simulation(given, seed=seed, parts=parts) as simulation:
        Clock(settings["clock"]).open()  # the steps before have measured the line
        with suppress(KeyboardInterrupt):
            simulation.run(progress=False)
        link = simulation.scenario.channels[0].link
        chosen = json.dumps({"delay": link.delay, "bits": link.bits})
        Path(settings["state"]).with_suffix(".json").write_text(chosen, encoding="utf-8")
        save(dict(antiphon.join(simulation).named_parameters()), settings["state"])


if __name__ == "__main__":
    main()
