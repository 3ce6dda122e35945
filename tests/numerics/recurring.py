"""Scenarios of recurrent agents on what was written down beforehand: for tests that must know every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon import Scenario, Simulation
from tests.numerics.played import Played
from tests.numerics.whole import DOUBLE, drawn

BATCH, STEPS, STATE = 4, 30, "a->a:state"
LENGTHS = (6, 4, 5) * 2
LINEAR: dict[str, Any] = {"kind": "linear", "context": ["hint"]}
GOAL = {"kind": "regression", "target": "y"}


def played(**ends: Any) -> Played:
    """Three numbers to see, two to say, and a hint of them."""
    shown = {
        "x": drawn(0, STEPS, BATCH, 3),
        "y": drawn(1, STEPS, BATCH, 2),
        "hint": drawn(2, STEPS, BATCH, 2),
    }
    return Played(shown, ("y", "hint"), **ends)


def flags(*lanes: int, lengths: Sequence[int] = LENGTHS) -> Tensor:
    """[STEPS, BATCH]: where episodes of these lengths end, in some environments (without any given: in all)."""
    found = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    for end in torch.tensor(lengths).cumsum(0) - 1:
        found[end, list(lanes or range(BATCH))] = True
    return found


def make(
    env: Any,
    state: dict[str, Any] | str | None = None,
    *,
    unroll: Any = 2,
    others: dict[str, Any] | None = None,
    channels: Sequence[dict[str, Any]] = (),
    training: dict[str, Any] | None = None,
    seed: int = 0,
    **agent: Any,
) -> Simulation:
    """A recurrent agent `a`, perhaps among others.

    Args:
        env: What it sees.
        state: Its state's coupling, or the gradient of a decoupled one; None: there is no such channel.
        unroll: Ticks of its windows.
        others: Further agents.
        channels: Between them.
        training: Beside a batch of `BATCH` and Adam.
        seed: Of the run.
        agent: What else is to be said of `a`.
    """
    own: dict[str, Any] = {
        "observes": ["x"],
        "network": {"kind": "gru", "size": 4},
        "clock": {"unroll": unroll},
        "objective": GOAL,
        **agent,
    }
    told = {"coupling": state} if isinstance(state, str) else {"coupling": "decoupled", "gradient": state}
    carried = [] if state is None else [{"from": "a", "to": "a", "key": "state", **told}]
    scenario = Scenario.model_validate(
        {
            "scenario": "recurring",
            "env": env,
            "agents": {
                "a": {key: value for key, value in own.items() if value is not None},
                **(others or {}),
            },
            "channels": [*carried, *channels],
            "training": {"batch": BATCH, "optimiser": {"kind": "adam", "lr": 0.01}, **(training or {})},
        }
    )
    return Simulation(scenario, seed=seed, dtype=DOUBLE)
