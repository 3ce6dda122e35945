"""State whose gradient is predicted across the window's end, against the same loop by hand (semantics 2, 3, 6, 7, 12, 20)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.nets.random import uniform
from antiphon.scenarios import Scenario
from tests.numerics.loops import Hand, HandGradient, Loop, Signals, distance
from tests.numerics.played import Played
from tests.numerics.whole import DOUBLE, drawn, predictor_of

BATCH, LR, SG_LR, UNROLL, STEPS = 6, 0.01, 0.003, 3, 60
STATE = "a->a:state"
KINDS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp", "hidden": [9], "norm": "layer"},
    "deep": {"kind": "mlp", "hidden": [9, 8], "norm": "none"},
}


def scenario(env: Played, cell: str, unroll: int = UNROLL, **gradient: Any) -> Scenario:
    gradient = {"context": ["hint"], "optimiser": {"kind": "adam", "lr": SG_LR}, **gradient}
    a = {
        "observes": ["x"],
        "network": {"kind": cell, "size": 5, "encoder": [7], "norm": "layer"},
        "clock": {"unroll": unroll},
        "objective": {"kind": "regression", "target": "y"},
    }
    return Scenario.model_validate(
        {
            "scenario": "time",
            "env": env,
            "agents": {"a": a},
            "channels": [
                {"from": "a", "to": "a", "carries": "state", "coupling": "decoupled", "gradient": gradient}
            ],
            "training": {"batch": BATCH, "optimiser": {"kind": "adam", "lr": LR}},
        }
    )


def played(**ends: Any) -> Played:
    shown = {
        "x": drawn(0, STEPS, BATCH, 4),
        "y": drawn(1, STEPS, BATCH, 3),
        "hint": drawn(2, STEPS, BATCH, 2),
    }
    return Played(shown, ("y", "hint"), **ends)


def ending(share: float, seed: int) -> Tensor:
    return torch.stack([uniform(seed, step, BATCH) < share for step in range(STEPS)])


def squared(output: Tensor, seen: Signals) -> Tensor:
    return (output - seen["y"]).square().mean(1)


def check(simulation: Simulation, source: Played, loop: Loop, steps: int = STEPS) -> None:
    """Let both learn; all that either has learned, and learned from, is the same."""
    deltas: list[Tensor] = []
    for step in range(steps):
        loop.step(source.at(step), *source.ends(step))
        simulation.step()
        lesson = simulation.learned.predictor_updates.get(STATE)
        if lesson is not None:
            for example in lesson.examples:
                assert example.delta is not None
                deltas.append(example.delta)
    assert len(deltas) == len(loop.deltas)
    for own, theirs in zip(deltas, loop.deltas, strict=True):
        assert torch.allclose(own, theirs, atol=1e-10, rtol=0)
    assert distance(simulation, "a", loop.hand) < 1e-10
    assert loop.gradient is not None
    for key, p in predictor_of(simulation, STATE).parameters.items():
        assert torch.allclose(p, loop.gradient.numbers[key], atol=1e-10, rtol=0), key
    assert float(loop.gradient.numbers["last.weight"].detach().abs().max()) > 1e-2
    assert any(delta.abs().max() > 1e-2 for delta in deltas)


def by_hand(simulation: Simulation, cell: str, unroll: int = UNROLL, **counts: Any) -> Loop:
    return Loop(
        Hand(simulation, "a", cell),
        squared,
        unroll,
        LR,
        HandGradient(simulation, STATE, SG_LR),
        lambda seen: seen["hint"],
        **counts,
    )


@pytest.mark.parametrize(
    ("cell", "kind"),
    [*(("lstm", kind) for kind in KINDS), ("gru", "linear"), ("rnn", "mlp"), ("leaky", "mlp")],
)
def test_a_decoupled_state_is_learned_as_by_hand(cell: str, kind: str) -> None:
    source = played(endless=True)
    with Simulation(scenario(source, cell, scale=0.1, **KINDS[kind]), dtype=DOUBLE) as simulation:
        check(simulation, source, by_hand(simulation, cell, scale=0.1))


@pytest.mark.parametrize(
    ("unroll", "scale", "discount"), [(4, 1.0, 1.0), (1, 0.5, 0.9), (4, 2.0, 0.0), (2, 0.0, 1.0)]
)
def test_scale_and_discount_count_where_they_should(unroll: int, scale: float, discount: float) -> None:
    source = played(endless=True)
    gradient: dict[str, Any] = {**KINDS["mlp"], "scale": scale, "discount": discount}
    with Simulation(scenario(source, "lstm", unroll, **gradient), dtype=DOUBLE) as simulation:
        check(simulation, source, by_hand(simulation, "lstm", unroll, scale=scale, discount=discount))


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("mlp", {"terminated": ending(0.2, 3)}),
        ("deep", {"truncated": ending(0.2, 4)}),
        *(
            (kind, {"terminated": ending(0.15, 3), "truncated": ending(0.15, 4) & ~ending(0.15, 3)})
            for kind in ("linear", "mlp")
        ),
    ],
    ids=["terminated", "truncated", "both-linear", "both-mlp"],
)
def test_episodes_end_per_environment_within_a_window(kind: str, ends: dict[str, Tensor]) -> None:
    """Terminated: the state is taught that nothing follows; cut short: it is taught nothing; both begin anew."""
    source = played(**ends)
    at_ends, within = range(UNROLL - 1, STEPS, UNROLL), range(0, STEPS, UNROLL)
    for flags in ends.values():
        assert flags[list(at_ends)].any()
        assert flags[list(within)].any()
    with Simulation(scenario(source, "lstm", scale=0.1, **KINDS[kind]), dtype=DOUBLE) as simulation:
        check(simulation, source, by_hand(simulation, "lstm", scale=0.1))


def test_all_environments_end_together_at_and_within_windows() -> None:
    source = played(lengths=(6, 4, 5) * 4)
    with Simulation(scenario(source, "lstm", scale=0.1, **KINDS["mlp"]), dtype=DOUBLE) as simulation:
        check(simulation, source, by_hand(simulation, "lstm", scale=0.1))


@pytest.mark.parametrize(
    "ends", [{"endless": True}, {"terminated": ending(0.2, 3)}], ids=["endless", "episodes"]
)
def test_the_auxiliary_task_reaches_the_core_and_no_delta(ends: dict[str, Any]) -> None:
    source = played(**ends)
    gradient = {**KINDS["mlp"], "scale": 0.5, "auxiliary": 0.7}
    with Simulation(scenario(source, "lstm", **gradient), dtype=DOUBLE) as simulation:
        loop = by_hand(simulation, "lstm", scale=0.5, auxiliary=0.7)
        assert "future.weight" in loop.hand.numbers
        check(simulation, source, loop)
