"""Reports of a step: by agent and channel, those of stacks are those of single agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.synthetic_gradients import Example
from antiphon.engine.core.updates import InputUpdate, Losses
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.report import AgentReport, LossesByAgent
from tests.contracts.builders import LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.twins import twins
from tests.engine.scenes import ENDS, LSTM, QUARANTINE, gradient
from tests.engine.stacks import both, engine_of, stacks

INPUT: Document = {"kind": "linear", "context": ["x"]}
LOCKED: Document = {"coupling": "locked"}
DRAWN: Document = {"p_update": 0.5, "clock": {"unroll": 2}}


def mixed() -> Document:
    """Groups of a stack's members and of lone agents, and one apart from all."""
    agents: Document = {f"a{i}": {**OWN, **DRAWN} for i in range(3)}
    agents |= {"c": {**OWN, "observes": ["y"], "objective": LABEL, "clock": {"unroll": 2}}}
    agents |= {"z": {**OWN, "objective": LABEL, "clock": {"unroll": 2}}}
    agents |= {"q": {**OWN, "objective": {"kind": "regression", "target": "goal"}}}
    pairs = [("a0", "c", LOCKED), ("a1", "z", LOCKED), ("a2", "c", LOCKED)]
    pairs += [(f"a{i}", "q", {**gradient(), "key": "k", "link": {"delay": 1}}) for i in range(3)]
    return document(agents, [{"from": a, "to": b, **how} for a, b, how in pairs], ENDS)


def one_of_many() -> Document:
    """Only one of a stack sends to a lone agent: a stack of one channel."""
    scene = ring(3, agent={"clock": {"unroll": 2}})
    scene["agents"]["z"] = {**OWN, "observes": ["y"], "objective": LABEL}
    scene["channels"] += [
        {"from": "n1", "to": "z", "input": INPUT, "link": {"delay": 1, "drop": 0.5}, **gradient()}
    ]
    return scene


CONTEXTS = gradient(kind="mlp", hidden=[4], norm="layer", context=["label", "goal", "returned"])
SCENES: dict[str, Document] = {
    "ring": ring(channel=CONTEXTS),
    "draws": ring(agent=DRAWN),
    "locked, drawn": levels(channel=LOCKED, low=DRAWN, high=DRAWN),
    "ends": ring(env=ENDS, channel={"link": {"delay": 2, "drop": 0.3}}),
    "no targets": ring(env=Play(gaps=0.6), batch=1),
    "own losses": levels(
        channel=gradient(kind="local", target="label", context=[]), env=Play(gaps=0.3), low=DRAWN
    ),
    "critics": levels(channel=gradient(kind="sobolev", hidden=[4], norm="layer")),
    "sobolev_label": levels(
        channel=gradient(kind="sobolev_label", target="label", hidden=[4], norm="layer", context=[])
    ),
    "inputs": ring(channel={"input": INPUT, "link": {"delay": 1, "drop": 0.5}}, env=ENDS),
    "unlocked": levels(channel={"coupling": "unlocked", "input": INPUT}, wide=True),
    "broadcasts": levels(wide=True, channel={"port": "p"}, count=2),
    "states": ring(3, agent=LSTM, env=ENDS, state=gradient(trace=0.5, span=2)),
    "mixed": mixed(),
    "one of many": one_of_many(),
    "quarantine": ring(**QUARANTINE, bound=1.0),
}


def plain(value: Any) -> Any:
    """A value as numbers that can be compared; who gets no gradient gets zeros in a cohort."""
    if isinstance(value, Example):
        names = ("message", "context", "delta", "target", "loss")
        return {name: getattr(value, name) for name in names}
    if isinstance(value, InputUpdate):
        return [value.loss, value.gradients]
    return value


def assert_close(one: Any, other: Any, place: str) -> None:
    if isinstance(one, Mapping):
        assert list(one) == list(other), place
        for key, value in one.items():
            assert_close(plain(value), plain(other[key]), f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(plain(a), plain(b), f"{place}/{i}")
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9, check_dtype=False, msg=place)
    elif one is None and isinstance(other, Tensor):
        assert not bool(other.any()), place
    else:
        assert one == other, place


def groups(learned: AgentReport) -> dict[tuple[str, ...], dict[str, Any]]:
    """The updates by learning group; those that nothing was learned from are left out."""
    found = {}
    for update in learned.updates:
        told: dict[str, Any] = {
            "gradients": update.gradients,
            "losses": {
                n: [o.loss, o.score, torch.as_tensor(o.count).expand(1)]
                for n, o in update.window_loss.losses.items()
            },
            "injected": dict(sorted(update.injected.items())),
        }
        if any(told.values()):
            found[update.group.members] = told
    return found


def trained(learned: AgentReport) -> dict[str, Any]:
    return {
        name: [update.examples, update.loss, update.prediction]
        for name, update in learned.predictor_updates.items()
    }


def losses(learned: AgentReport) -> dict[str, list[Tensor]]:
    """The losses by agent, where there was a target."""
    found: dict[str, list[Tensor]] = {}
    for names, said in learned.losses():
        for n, name in enumerate(names):
            own = said.of([n])
            if bool(torch.as_tensor(own.count)):
                found[name] = [own.loss, own.score, torch.as_tensor(own.count).expand(1)]
    return dict(sorted(found.items()))


def took(simulation: Simulation) -> AgentReport:
    simulation._advance(watch=True)
    return simulation.learned


@pytest.mark.parametrize("name", SCENES)
def test_everything_is_reported_as_of_single_agents(name: str) -> None:
    single, cohort = both(SCENES[name])
    assert stacks(engine_of(cohort).stacked)
    ever: set[str] = set()
    for step in range(7):
        one, other = took(single), took(cohort)
        place = f"{name} {step}"
        assert_close(dict(sorted(one.by_agent().items())), dict(sorted(other.by_agent().items())), place)
        ours, theirs = groups(one), groups(other)
        assert ours.keys() <= theirs.keys(), place
        for members, told in ours.items():
            for key, value in told.items():
                assert_close(value, _of(theirs[members][key], value), f"{place} {members} {key}")
        assert_close(losses(one), losses(other), place)
        assert_close(trained(one), trained(other), place)
        assert_close(
            dict(sorted(one.input_updates.items())), dict(sorted(other.input_updates.items())), place
        )
        ever |= {*one.by_agent(), *one.predictor_updates, *one.input_updates}
    assert ever


def _of(told: dict[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """What is reported of those that the single agents' report names, in its order; of others there are only zeros."""
    for name, value in told.items():
        if name not in like:
            assert_close([None] * len(value), value, name)
    return {name: told[name] for name in like if name in told}


def test_what_is_not_read_at_once_is_still_there() -> None:
    single, cohort = both(ring(env=ENDS, channel=CONTEXTS))
    kept = []
    for _ in range(6):
        one, other = took(single), took(cohort)
        kept.append((one.by_agent(), other.by_agent(), trained(one), other))
    for step, (ours, theirs, taught, learned) in enumerate(kept):
        assert_close(dict(ours), dict(theirs), str(step))
        assert_close(taught, trained(learned), str(step))


def test_predictor_updates_come_in_the_order_of_channels() -> None:
    _, cohort = twins(levels(wide=True, channel={"port": "p", "link": {"delay": 1}}))
    cohort.run(3)
    names = list(cohort.learned.predictor_updates)
    assert names == [name for name in cohort._system.channels if name in names]
    assert len(names) == 9


# --- losses by hand --------------------------------------------------------------------------------------


def some(count: int | Tensor) -> Losses:
    return Losses(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]), count)


def test_losses_of_one_or_of_some() -> None:
    one = some(torch.tensor([7, 0, 9])).of([2])
    assert (one.loss.tolist(), one.score.tolist()) == ([3.0], [6.0])
    assert torch.as_tensor(one.count).tolist() == [9]
    several = some(5).of([0, 2])
    assert (several.loss.tolist(), several.score.tolist(), several.count) == ([1.0, 3.0], [4.0, 6.0], 5)
    assert some(5).of(slice(1, 3)).loss.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("count", [4, torch.tensor([4, 4, 4])])
def test_losses_without_some_members(count: int | Tensor) -> None:
    given = some(count)
    given.loss[1] = torch.nan
    found = given.without(torch.tensor([False, True, False]))
    assert found.loss.tolist() == [1.0, 0.0, 3.0]
    assert found.score.tolist() == [4.0, 0.0, 6.0]
    assert torch.as_tensor(found.count).tolist() == [4, 0, 4]


class Counting(AgentReport):
    """Counts how often its losses are read."""

    def __init__(self) -> None:
        self.read = 0

    def losses(self) -> Iterator[tuple[tuple[str, ...], Losses]]:
        self.read += 1
        yield ("a", "b", "c"), some(torch.tensor([1, 0, 2]))
        yield ("d",), Losses(torch.tensor([9.0]), torch.tensor([0.0]), 1)
        yield ("e", "f", "g"), some(3)


def test_losses_by_agent_are_taken_apart_when_they_are_read() -> None:
    report = Counting()
    found = LossesByAgent(report)
    assert report.read == 0
    assert list(found) == ["a", "c", "d", "e", "f", "g"]
    assert (float(found["c"]), float(found["d"]), float(found["f"])) == (3.0, 9.0, 2.0)
    assert all(value.dim() == 0 for value in found.values())
    assert len(found) == 6
    assert "b" not in found
    assert report.read == 1
    assert "'a'" in repr(found)
