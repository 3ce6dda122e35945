"""Disabling: a member of a stack that diverges stops with all that it learns with, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.contracts.builders import GOAL, LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.twins import agree, side_by_side, twins
from tests.engine.numbers import fill
from tests.engine.scenes import BATCH_NORM, ENDS, LSTM, QUARANTINE, gradient
from tests.engine.stacks import engine_of, stacks

LOCKED: Document = {"coupling": "locked"}
SGD: Document = {"predictor": {"kind": "sgd", "lr": 0.05}}


def pairs(told: list[tuple[str, str, Document]], own: dict[str, Document], **training: Any) -> Document:
    """Agents a…, without an objective, and others, that have one."""
    names = sorted({name for a, b, _ in told for name in (a, b)})
    agents = {
        n: {**OWN, **({} if n[0] == "a" else {"objective": LABEL}), **own.get(n[0], {}), **own.get(n, {})}
        for n in names
    }
    return document(agents, [{"from": a, "to": b, **how} for a, b, how in told], **QUARANTINE, **training)


def mixed(**training: Any) -> Document:
    """Groups of a stack's members and of lone agents, which add up the ages of messages."""
    aged: Document = {"observes": ["y", "age"], "fan_in": "sum"}
    told = [(f"a{i}", f"b{i}", {**LOCKED, "size": 4}) for i in range(4)]
    return pairs(told, {"a": {"objective": GOAL}, "b": aged}, **training)


SCENES: dict[str, Document] = {
    "ring": ring(**QUARANTINE),
    "windows": ring(agent={"clock": {"unroll": 3}}, channel={"link": {"delay": 2}}, **QUARANTINE),
    "draws": ring(agent={"p_update": 0.5, "clock": {"unroll": 2}}, **QUARANTINE),
    "groups": levels(channel=LOCKED, **QUARANTINE),
    "groups of several": levels(channel={**LOCKED, "port": "p"}, wide=True, **QUARANTINE),
    "mixed": mixed(),
    "sums": levels(high={"fan_in": "mean"}, wide=True, **QUARANTINE),
    "statistics": levels(low=BATCH_NORM, channel={"norm": "batch"}, **QUARANTINE, **SGD),
    "inputs": ring(
        channel={"input": {"kind": "linear", "context": ["x", "held"]}, "link": {"delay": 1, "drop": 0.4}},
        **QUARANTINE,
    ),
    "states": ring(3, agent=LSTM, env=ENDS, state=gradient(), **QUARANTINE),
    "ends": levels(env=Play(share=0.3), channel={"link": {"delay": 2}}, **QUARANTINE),
    "ends, alone": levels(env=Play(share=0.3), channel={"link": {"delay": 2}}, batch=1, **QUARANTINE),
    "critics": levels(channel=gradient(kind="sobolev", hidden=[4], norm="layer"), **QUARANTINE),
    "aligned": levels(high={"align": True, "observes": ["x"]}, channel={"link": {"delay": 1}}, **QUARANTINE),
}


@pytest.mark.parametrize("name", SCENES)
def test_one_that_is_no_number_stops_alone(name: str) -> None:
    """Whoever it is; what it is told stays what it is, and everything of the others is what it would be."""
    reference, cohort = twins(SCENES[name])
    assert stacks(engine_of(cohort).stacked)
    sick = list(SCENES[name]["agents"])[-2]
    value = torch.inf if name in ("ring", "mixed") else torch.nan
    for simulation in (reference, cohort):
        simulation.run(4)
        fill(simulation._system.agents[sick].learner, value)
        simulation.run(6)
    agree(reference, cohort)
    assert reference.events == cohort.events


@pytest.mark.parametrize("bound", [1.0, 1.6, 2.5])
@pytest.mark.parametrize("name", ["groups", "groups of several", "mixed", "draws"])
def test_the_bound_is_of_all_that_learns_together(name: str, bound: float) -> None:
    scene = {**SCENES[name], "training": {**SCENES[name]["training"], "bound": bound}}
    side_by_side(*twins(scene), 8)


@pytest.mark.parametrize("which", ["muted", "deaf", "silenced"])
@pytest.mark.parametrize("name", ["sums", "inputs", "states", "critics", "mixed", "statistics"])
def test_what_was_disabled_before_stays_so_in_stacks(name: str, which: str) -> None:
    """A state in which an agent, a predictor or an input is disabled is loaded and gone on with."""
    reference, cohort = twins(SCENES[name])
    reference.run(5)
    state = reference._state_dict()
    names = reference._system.agents if which == "silenced" else reference._system.channels
    state["system"]["quarantine"][which] += [list(names)[1]]
    for simulation in (reference, cohort):
        simulation._load_state_dict(state)
    side_by_side(reference, cohort, 5)
    found = cohort._state_dict()["system"]["quarantine"][which]
    assert found == [list(names)[1]]


@pytest.mark.parametrize("sick", ["n0", "n3"])
def test_in_single_precision_what_is_finite_is_not_called_something_else(sick: str) -> None:
    """Gradients whose squares are no numbers any more."""
    found = []
    for simulation in twins(
        ring(channel=gradient(kind="mlp", hidden=[4], norm="none"), **QUARANTINE), dtype=torch.float32
    ):
        simulation.run(4)
        after = {"n0": "n1", "n3": "n0"}[sick]
        predictor = simulation._system.channels[f"{sick}->{after}"].predictor
        assert predictor is not None
        predictor.parameters["last.bias"].data.fill_(1e21)
        simulation.run(2)
        found.append((simulation.events, simulation._system.agents[sick].agent_disabled))
    assert found[0] == found[1]
    assert found[0][1] is False
