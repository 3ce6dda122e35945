"""Returns over several windows: which windows they reach over, and which not (semantics 7, 11, 15)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.records import LearningGroup, Tape
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.lambda_returns import LambdaReturns
from tests.engine.recurring import GOAL, LINEAR, STATE, make, played

SPAN = 3
TRACED = {**LINEAR, "trace": 0.5, "span": SPAN}
Reached = list[tuple[int, list[int]]]


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Reached:
    """At which step a return was computed, and over which windows."""
    found: Reached = []
    computed = LambdaReturns._return

    def noted(
        self: LambdaReturns, unit: LearningGroup, tapes: list[Tape], channel: Channel, step: int
    ) -> Tensor:
        found.append((step, [tape.window for tape in tapes]))
        return computed(self, unit, tapes, channel, step)

    monkeypatch.setattr(LambdaReturns, "_return", noted)
    return found


def steps_taught(simulation: Simulation, steps: int) -> list[int]:
    return [
        info["step"]
        for info in (simulation.step() for _ in range(steps))
        if STATE in simulation.learned.predictor_updates
    ]


@pytest.mark.parametrize("unroll", [1, 2])
def test_they_reach_over_the_newest_windows(unroll: int, reached: Reached) -> None:
    with make(played(endless=True), TRACED, unroll=unroll) as simulation:
        taught = steps_taught(simulation, 8 * unroll)
    assert reached == [
        ((last + 1) * unroll - 1, list(range(last - SPAN + 1, last + 1))) for last in range(SPAN, 8)
    ]  # what the first window starts from nobody has made
    assert taught == [step for step, _ in reached]


def test_no_more_windows_are_kept_than_they_reach_over_and_no_graph() -> None:
    with make(played(endless=True), TRACED) as simulation:
        (unit,) = simulation.backend.system.groups
        for info in (simulation.step() for _ in range(16)):
            windows = [tape.window for tape in unit.past]
            done = (info["step"] + 1) // 2
            assert windows == list(range(max(0, done - SPAN), done))
            for tape in unit.past:
                assert tape.graph_outputs == {}
                assert all(part.ports == {} for tick in tape.ticks for part in tick.parts)
                assert all(record.graph_output is None for _, record in tape.sent)


@pytest.mark.parametrize("more", [{}, {"trace": 0.5, "span": 1}, {"trace": 0.0}])
def test_nothing_is_kept_where_none_is_asked_for(more: dict[str, Any], reached: Reached) -> None:
    with make(played(endless=True), {**LINEAR, **more}) as simulation:
        simulation.run(12)
        assert simulation.backend.system.groups[0].past == []
    assert reached == []


def test_none_reaches_through_a_window_that_was_not_learned_from(reached: Reached) -> None:
    with make(played(endless=True), TRACED, p_update=0.7, seed=7) as simulation:
        agent = simulation._system.agents["a"]
        drawn = [agent.participates(window) for window in range(15)]
        simulation.run(30)
    whole = [last for last in range(SPAN, 15) if all(drawn[last - SPAN + 1 : last + 1])]
    assert drawn.count(False) > 1
    assert len(whole) > 2
    assert [windows[-1] for _, windows in reached] == whole


@pytest.mark.parametrize(
    "late",
    [{"link": {"delay": 3}}, {"link": {"delay": 3}, "staleness": 2}, {"link": {"delay": 2, "rate": 0.5}}],
)
def test_they_reach_over_windows_in_their_order_however_late(late: dict[str, Any], reached: Reached) -> None:
    """A window with nothing to wait for may be learned from before the one before it."""
    others = {"b": {"network": {"kind": "mlp", "hidden": []}, "objective": GOAL}}
    channel = {"from": "a", "to": "b", "size": 2, "coupling": "delayed", **late}
    with make(played(endless=True), TRACED, unroll=1, others=others, channels=[channel]) as simulation:
        simulation.run(20)
    for _, windows in reached:
        assert windows == list(range(windows[0], windows[0] + SPAN))


def test_each_of_a_group_has_its_own(reached: Reached) -> None:
    """A locked member's return contains what comes back through the other."""
    own = {"network": {"kind": "gru", "size": 3}, "objective": GOAL, "clock": {"unroll": 2}}
    second = {"from": "b", "to": "b", "carries": "state", "coupling": "decoupled", "gradient": LINEAR}
    locked = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": "locked"}
    with make(
        played(endless=True), TRACED, others={"b": own}, channels=[second, locked], objective=None
    ) as simulation:
        taught, norms = [], []
        for info in (simulation.step() for _ in range(16)):
            lesson = simulation.learned.predictor_updates.get(STATE)
            if lesson is not None:
                taught.append(info["step"])
                norms += [
                    float(example.delta.norm()) for example in lesson.examples if example.delta is not None
                ]
            if info["step"] > 2 and info["step"] % 2:
                assert "b->b:state" in simulation.learned.predictor_updates
    assert taught == [step for step, _ in reached] == [7, 9, 11, 13, 15]
    assert min(norms) > 1e-6


def test_quarantine_is_told_once() -> None:
    """What has diverged is not gone through again."""
    with make(played(endless=True), TRACED, training={"on_divergence": "quarantine"}) as simulation:
        simulation.run(10)
        simulation._system.agents["a"].learner.parameters["objective.weight"].data.fill_(torch.nan)
        simulation.run(6)
        ((step, line),) = simulation.events
        assert step == 11
        assert "agent 'a': the gradient" in line
