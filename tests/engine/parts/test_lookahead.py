"""The lookahead is safe, and no larger one is: exchanges as late as it allows change no number, a step later they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from antiphon.engine.build.builder import build
from antiphon.engine.parts.part import merge_states
from antiphon.engine.parts.placement import channel_lookahead, cut_channels, lookahead_of, units_of
from antiphon.engine.simulation import Simulation
from antiphon.envs import describe
from antiphon.errors import EngineError
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, OWN, Document, Play, document
from tests.contracts.drawn_scenes import scenes
from tests.contracts.twins import facts
from tests.engine.parts.lockstep import parts_of, run

STEPS = 24
PLACE = {"a": 0, "b": 1, "c": 2}


def chain(first: Document, second: Document, *, env: Any = None, **agents: Document) -> Scenario:
    """Three agents, each with an objective, in a row."""
    named = {name: {**OWN, "objective": LABEL, **agents.get(name, {})} for name in "abc"}
    ways = [{"from": "a", "to": "b", **first}, {"from": "b", "to": "c", **second}]
    return Scenario.model_validate(document(named, [{"size": 4, **way} for way in ways], env))


def way(delay: int, coupling: str = "decoupled", **keys: Any) -> Document:
    """A channel of a delay."""
    gradient = {"gradient": {"kind": "linear", "context": ["label"]}} if coupling == "decoupled" else {}
    return {"coupling": coupling, **gradient, **keys, "link": {"delay": delay, **keys.get("link", {})}}


def same_as_uncut(scenario: Scenario, placement: dict[str, int], lookahead: int) -> bool:
    """Whether parts whose exchanges are so late compute the numbers of the uncut run, but for rounding."""
    keys: dict[str, Any] = {"stacked": False, "dtype": torch.float64}
    with Simulation(scenario, **keys) as whole, Simulation(scenario, **keys) as joined:
        for _ in range(STEPS):
            whole.step()
        parts = parts_of(scenario, placement, **keys)
        for part in parts:
            part.lookahead = part.boundary.lookahead = lookahead
        try:
            run(parts, STEPS, lookahead)
        except EngineError:  # what is read has not arrived
            return False
        joined._load_state_dict(merge_states([part.state_dict() for part in parts]))
        ours, theirs = facts(whole), facts(joined)
        return ours.keys() == theirs.keys() and all(close(ours[place], theirs[place]) for place in ours)


def close(a: Any, b: Any) -> bool:
    """Whether two values agree but for rounding."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-8, atol=1e-11)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(a == b)


CASES: dict[str, tuple[Scenario, int]] = {
    "delays": (chain(way(3), way(4)), 3),
    "a gradient that is back sooner": (chain(way(4, link={"back": 2}), way(4)), 2),
    "nothing returned": (chain(way(3, "detached"), way(5, "detached")), 3),
    "a delayed channel": (chain(way(3, "delayed"), way(4)), 3),
    "a reader that ticks seldom": (chain(way(3, "delayed"), way(3), b={"clock": {"period": 3}}), 3),
    "a sender that learns seldom": (chain(way(3, "delayed"), way(3), a={"p_update": 0.5}), 3),
    "a receiver that learns seldom": (chain(way(3, "delayed"), way(3), b={"p_update": 0.5}), 1),
    "delayed messages of ended episodes": (chain(way(3, "delayed"), way(3), env=Play(share=0.2)), 1),
    "delayed messages that are lost": (chain(way(3, "delayed", link={"drop": 0.9}), way(3)), 1),
}


MORE = ("nothing returned", "a delayed channel", "a reader that ticks seldom", "a sender that learns seldom")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in MORE else ()) for name in CASES]
)
def test_later_exchanges_change_numbers(name: str) -> None:
    scenario, lookahead = CASES[name]
    system = build(scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float64)
    assert lookahead_of(system, PLACE) == lookahead
    assert same_as_uncut(scenario, PLACE, lookahead)
    assert not same_as_uncut(scenario, PLACE, lookahead + 1)


@pytest.mark.long
@settings(max_examples=12)
@given(scenes(), st.data())
def test_random_scenarios_with_exchanges_as_late_as_may_be(doc: Document, data: st.DataObject) -> None:
    """Any placement that is accepted, where parts may be more than a step apart."""
    training = {key: value for key, value in doc["training"].items() if key not in ("on_divergence", "bound")}
    scenario = Scenario.model_validate(doc | {"training": training})
    system = build(scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float64)
    units = units_of(system)
    assume(len(units) > 1)
    numbers = [0, 1, *(data.draw(st.integers(0, 1)) for _ in units[2:])]
    found = {name: part for unit, part in zip(units, numbers, strict=True) for name in unit}
    placement = {name: found[name] for name in system.agents}
    cut = cut_channels(system, placement)
    assume(cut)
    lookahead = min(channel_lookahead(system, channel) for channel in cut)
    assert same_as_uncut(scenario, placement, lookahead)
