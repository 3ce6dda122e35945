"""`age`: how old the messages are that an agent reads, in ticks of their senders (semantics 18)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from tests.engine.recurring import BATCH, GOAL, LENGTHS, LINEAR, STEPS, flags, make, played

READER: dict[str, Any] = {"network": {"kind": "mlp", "hidden": [5]}, "objective": GOAL}


def reader(
    link: dict[str, Any],
    *,
    periods: tuple[int, int] = (1, 1),
    ends: dict[str, Any] | None = None,
    observes: tuple[str, ...] = ("age",),
    **channel: Any,
) -> Simulation:
    """`a` sends; `b` reads, and sees how old what it reads is."""
    others = {"b": {**READER, "observes": list(observes), "clock": {"period": periods[1]}}}
    told = {"from": "a", "to": "b", "size": 2, "gradient": LINEAR, "link": link, **channel}
    clock = {"period": periods[0], "unroll": 1}
    return make(played(**(ends or {"endless": True})), others=others, channels=[told], clock=clock)


def ages(simulation: Simulation, steps: int = STEPS) -> dict[int, Tensor]:
    """[B] at each of the reader's ticks."""
    found: dict[int, Tensor] = {}
    for step in range(steps):
        simulation.backend.tick(step, simulation.world.step_signals)
        for tick in simulation._system.group_of["b"].tape.ticks:
            if tick.step == step:
                assert tick.parts[0].ages is not None
                found[step] = tick.parts[0].ages[:, 0]
        simulation._system.cut(step, simulation.world.advance())
        simulation.backend.learn(step)
        simulation.now += 1
    return found


@pytest.mark.parametrize("periods", [(1, 1), (4, 1), (3, 2), (1, 3)])
@pytest.mark.parametrize("delay", [0, 2])
def test_a_message_that_is_held_grows_older(delay: int, periods: tuple[int, int]) -> None:
    with reader({"delay": delay}, periods=periods) as simulation:
        found = ages(simulation, 20)
    assert list(found) == list(range(0, 20, periods[1]))
    for step, age in found.items():
        stamp = (step - delay) // periods[0] * periods[0]
        expected = 0.0 if stamp < 0 else (step - stamp) / periods[0]
        assert age.tolist() == [expected] * BATCH


def test_on_a_link_that_loses_it_is_that_of_what_is_held() -> None:
    with reader({"delay": 1, "drop": 0.5}) as simulation:
        link = simulation._system.channels["a->b"].ledger.link
        lost = [link.lost(step, BATCH, "cpu") for step in range(STEPS)]
        found = ages(simulation)
    for step, age in found.items():
        for lane in range(BATCH):
            came = [s for s in range(step) if lost[s] is not None and not bool(lost[s][lane])]  # type: ignore[index]
            assert float(age[lane]) == (step - came[-1] if came else 0.0)
    assert max(float(age.max()) for age in found.values()) > 2


def test_what_stands_in_is_as_old_as_what_it_stands_for() -> None:
    with reader({"delay": 2, "drop": 0.5}, input={"kind": "linear", "context": ["x"]}) as simulation:
        found = ages(simulation)
    assert [age.tolist() for age in found.values()] == [[0.0] * BATCH] * 2 + [[2.0] * BATCH] * (STEPS - 2)


@pytest.mark.parametrize("ends", [{"terminated": flags(1, 2)}, {"lengths": LENGTHS}])
@pytest.mark.parametrize("link", [{"delay": 2}, {"delay": 2, "drop": 1e-9}], ids=["perfect", "lossy"])
def test_where_nothing_has_come_since_an_episode_began_it_is_zero(
    link: dict[str, Any], ends: dict[str, Any]
) -> None:
    with reader(link, ends=ends) as simulation:
        found = ages(simulation)
    starts = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
    for step, age in found.items():
        for lane in range(BATCH):
            ended = "lengths" in ends or lane in (1, 2)
            start = max(s for s in starts if s <= step) if ended else 0
            assert float(age[lane]) == (2.0 if step - start >= 2 else 0.0)


def test_of_several_messages_it_is_that_of_the_newest() -> None:
    for read in ("mean", "concat"):
        with reader({"delay": 1}, periods=(1, 3), read=read) as simulation:
            assert [age[0].item() for age in ages(simulation, 12).values()] == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("observes", [("age", "x"), ("x", "age")])
def test_it_stands_where_it_is_observed_and_reaches_the_network(observes: tuple[str, ...]) -> None:
    with reader({"delay": 2}, periods=(4, 1), observes=observes) as simulation:
        given: list[Tensor] = []
        gather = simulation.backend.forward_pass.inputs

        def noted(part: Any, tape: Any) -> Tensor:
            found = gather(part, tape)
            if part.agent == "b":
                given.append(found)
            return found

        simulation.backend.forward_pass.inputs = noted  # type: ignore[method-assign]
        found = ages(simulation, 9)
        place = 0 if observes[0] == "age" else 3
        for step, age in found.items():
            assert torch.equal(given[step][:, place], age)
            shown = given[step][:, 1:4] if place == 0 else given[step][:, :3]
            assert torch.equal(shown, played().at(step)["x"])
