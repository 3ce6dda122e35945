"""The horizon that a warning names is the shortest with which no gradient of a delayed channel is dropped."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import Tensor

from antiphon import Scenario, Simulation
from antiphon.comms import Coupling, CreditedMessage
from antiphon.errors import RunError
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit import examined

SCENES: dict[str, tuple[int, dict[str, Any]]] = {
    "both ways": (6, {"link": {"delay": 3}}),
    "a slow way back": (6, {"link": {"delay": [1, 5]}}),
    "clocks": (3, {"link": {"delay": 6}, "sender": {"period": 3, "unroll": 2}, "receiver": {"period": 2}}),
    "a long window of the receiver": (13, {"link": {"delay": 5}, "receiver": {"unroll": 4}}),
    "a receiver that waits too": (16, {"link": {"delay": 4}, "between": {}}),
    "a receiver that waits in long windows": (7, {"link": {"delay": 2}, "between": {"unroll": 4}, "sender": {"unroll": 2}, "receiver": {"unroll": 3}}),
}  # fmt: skip


def delayed(
    horizon: int,
    *,
    link: dict[str, Any],
    sender: dict[str, Any] | None = None,
    receiver: dict[str, Any] | None = None,
    between: dict[str, Any] | None = None,
    coupling: Any = "delayed",
) -> Scenario:
    """One agent learns from what comes back alone; `between`: over an agent of this clock."""
    agents: dict[str, Any] = {"a": {"observes": ["image"], "clock": sender or {}}}
    agents["z"] = {"objective": CLASSIFY, "clock": receiver or {}}
    channel = {"size": 4, "coupling": coupling, "link": link}
    channels = [{"from": "a", "to": "z", "horizon": horizon, **channel}]
    if between is not None:
        agents["b"] = {"clock": between}
        channels[0]["to"] = "b"
        channels.append({"from": "b", "to": "z", "horizon": 99, **channel})
    return scenario_of(agents, channels, {"hold": 1}, steps=2000)


@pytest.mark.parametrize(("steps", "horizon", "named"), [(0, 1, []), (4, 2, [6]), (4, 4, []), (99, 5, [6])])
def test_what_a_coupling_waits_for_no_more_is_not_given_up(
    steps: int, horizon: int, named: list[int]
) -> None:
    """A message and its gradient take three steps each, and the sender learns at every step: within the horizon it goes on without."""

    class Patient(Coupling):
        uses_returned = waits = True

        def waits_for(self, stamp: int, step: int) -> bool:
            return step < stamp + steps

        def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
            return message.returned_gradient

    assert warned(delayed(horizon, link={"delay": 3}, coupling=Patient)) == named


def test_an_error_of_a_couplings_waits_for_names_channel_and_line() -> None:
    class Fails(Coupling):
        uses_returned = waits = True

        def waits_for(self, stamp: int, step: int) -> bool:
            raise ValueError("no\npatience")

        def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
            return message.returned_gradient

    line = r"^channels\.a->z: .*Fails\.waits_for failed at test_given_up\.py:\d+: ValueError: no$"
    with one_line(line, RunError):
        warned(delayed(1, link={"delay": 3}, coupling=Fails))


def warned(scenario: Scenario) -> list[int]:
    lines = (
        re.search(r"are dropped; use horizon: (\d+)", line) for line in examined.warned(scenario, acts=False)
    )
    return [int(line[1]) for line in lines if line]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("shortest", "scene"), SCENES.values(), ids=list(SCENES))
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_the_horizon_of_the_warning_is_the_shortest_without_a_loss(
    shortest: int, scene: dict[str, Any]
) -> None:
    assert warned(delayed(1, **scene)) == [shortest]
    updates = []
    for horizon in (shortest - 1, shortest, shortest + 1):
        with Simulation(delayed(horizon, **scene)) as simulation:
            simulation.run(80)
            updates.append(simulation.agents["a"].updates)
    assert updates[0] < updates[1] == updates[2]
    assert warned(delayed(shortest, **scene)) == []
