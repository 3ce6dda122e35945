"""State whose gradient is predicted across the window's end, against the same loop by hand (semantics 2, 3, 6, 7, 12, 20)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.nets.random import uniform
from tests.contracts.builders import Document
from tests.numerics.linear import assert_close
from tests.numerics.loops import Hand, HandGradient, Loop, distance, squared
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, LENGTHS, STATE, STEPS, make, played

LR, SG_LR, UNROLL = 0.01, 0.003, 3
KINDS: dict[str, Document] = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp", "hidden": [9], "norm": "layer"},
    "deep": {"kind": "mlp", "hidden": [9, 8], "norm": "none"},
}


def ending(share: float, seed: int) -> Tensor:
    return torch.stack([uniform(seed, step, BATCH) < share for step in range(STEPS)])


def check(
    source: Played, cell: str = "lstm", kind: str = "mlp", unroll: int = UNROLL, **counts: float
) -> None:
    """Let an agent and its loop by hand learn side by side: all that either has learned is the same.

    Args:
        source: What both see.
        cell: Of the agent.
        kind: Of the synthetic gradient.
        unroll: Steps in a window.
        **counts: `scale`, `discount`, `auxiliary`.
    """
    network = {"kind": cell, "size": 5, "hidden": [7], "norm": "layer"}
    gradient = {
        "kind": "linear",
        "context": ["hint"],
        "optimiser": {"kind": "adam", "lr": SG_LR},
        **KINDS[kind],
        **counts,
    }
    with make(source, gradient, unroll=unroll, network=network) as simulation:
        hand, model = Hand(simulation, "a", cell), HandGradient(simulation, STATE, SG_LR)
        start = {key: p.detach().clone() for key, p in model.numbers.items()}
        loop = Loop(hand, squared, unroll, LR, model, lambda seen: seen["hint"], **counts)
        for step in range(STEPS):
            loop.step(source.at(step), *source.ends(step))
            simulation.step()
        assert distance(simulation, "a", hand) < 1e-10
        assert_close(simulation.channels[STATE].synthetic_gradient, model.numbers, 1e-10)
        assert all((p - start[key]).abs().max() > 1e-3 for key, p in model.numbers.items())


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("cell", "kind"),
    [*(("lstm", kind) for kind in KINDS), ("gru", "linear"), ("rnn", "mlp"), ("leaky", "mlp")],
)
def test_a_decoupled_state_is_learned_as_by_hand(cell: str, kind: str) -> None:
    check(played(endless=True), cell, kind, scale=0.1)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("unroll", "scale", "discount"), [(4, 1.0, 1.0), (1, 0.5, 0.9), (4, 2.0, 0.0), (2, 0.0, 1.0)]
)
def test_scale_and_discount_count_where_they_should(unroll: int, scale: float, discount: float) -> None:
    check(played(endless=True), unroll=unroll, scale=scale, discount=discount)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("mlp", {"terminated": ending(0.2, 3)}),
        ("deep", {"truncated": ending(0.2, 4)}),
        ("linear", {"terminated": ending(0.15, 3), "truncated": ending(0.15, 4) & ~ending(0.15, 3)}),
        ("mlp", {"lengths": LENGTHS}),
    ],
    ids=["terminated", "truncated", "both", "together"],
)
def test_episodes_end_per_environment_within_a_window(kind: str, ends: dict[str, Any]) -> None:
    """Terminated: the state is taught that nothing follows; cut short: it is taught nothing; both begin anew."""
    at_ends, within = range(UNROLL - 1, STEPS, UNROLL), range(0, STEPS, UNROLL)
    for flags in ends.values():
        if isinstance(flags, Tensor):
            assert flags[list(at_ends)].any()
            assert flags[list(within)].any()
    check(played(**ends), "lstm", kind, scale=0.1)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "ends", [{"endless": True}, {"terminated": ending(0.2, 3)}], ids=["endless", "episodes"]
)
def test_the_auxiliary_task_reaches_the_core_and_no_delta(ends: dict[str, Any]) -> None:
    check(played(**ends), scale=0.5, auxiliary=0.7)
