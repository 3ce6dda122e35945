"""The sweep order (`training.sweep`): graphs that are gone before the next agent ticks, and messages that are released.

That its numbers are those of the joint order is in tests/contracts. `kept` reads the engine for the parameters that count.
"""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from antiphon import Scenario, Simulation
from benchmarks.split import Kept
from tests.contracts.builders import LABEL, TOLD, Document, document
from tests.contracts.twins import made
from tests.engine.numbers import equal, parameters

LOCAL: Document = {"gradient": {"kind": "local", "target": "label"}}
SOBOLEV: Document = {"gradient": {"kind": "sobolev_label", "target": "label", "hidden": [5]}}
DETACHED: Document = {"coupling": "detached"}
TWICE: Document = {"clock": {"unroll": 2}}
HALF: Document = {"clock": {"period": 2}}


def swept(scene: Document, sweep: bool = True) -> Document:
    return {**scene, "training": {**scene["training"], "sweep": sweep}}


def block(inputs: int, outputs: int) -> nn.Module:
    """A block with dropout, whose width is not its message's."""
    return nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, outputs))


def chain(count: int, channel: Document, *, agent: Document | None = None, every: bool = False) -> Document:
    """Blocks in a chain, each the only reader of the one before.

    Args:
        count: Of blocks.
        channel: What each channel has besides.
        agent: What each agent has besides.
        every: Whether every block has an objective, or the last alone.
    """
    agents: Document = {}
    for i in range(count):
        seen = {"observes": ["x"]} if i == 0 else {}
        goal = {"objective": LABEL} if every or i == count - 1 else {}
        agents[f"m{i}"] = {"network": block, **seen, **goal, **(agent or {})}
    channels = [{"from": f"m{i}", "to": f"m{i + 1}", "size": 6, **channel} for i in range(count - 1)]
    return document(agents, channels)


def wide(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def kept(count: int, sweep: bool, channel: Document) -> int:
    """Bytes kept for backward at most, over one step of a chain of so many blocks."""
    scene = chain(count, channel)
    for agent in scene["agents"].values():
        agent["network"] = wide
    with Simulation(Scenario.model_validate(swept(scene, sweep))) as simulation:
        simulation.run(2)
        own = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        account = Kept(own)
        most = account.during(simulation.step)
        assert account.now == 0
    return most


@pytest.mark.cases(1)
@pytest.mark.parametrize("channel", [DETACHED, LOCAL, SOBOLEV, TOLD])
def test_what_is_kept_for_backward_does_not_grow_with_the_chain(channel: Document) -> None:
    few, many, joint = kept(3, True, channel), kept(12, True, channel), kept(12, False, channel)
    assert many <= 1.1 * few
    assert joint >= 3 * many


@pytest.mark.parametrize("channel", [DETACHED, LOCAL])
def test_spent_messages_are_released_unless_they_are_looked_at(
    channel: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those to which nothing returns, once read: within a run, but for the steps of metrics and recordings."""
    with made(swept(chain(3, channel)), "cohort") as simulation:
        held: list[int] = []
        env = simulation.world.env
        step = env.step

        def noted(actions: Any = None) -> Any:
            messages = [m for c in simulation.channels.values() for m in c.messages.values()]
            held.append(sum(m.value.numel() for m in messages))
            return step(actions)

        monkeypatch.setattr(env, "step", noted)
        simulation.run(5)
        simulation.step()
    assert held == [48, 0, 0, 0, 48, 48]  # the first and last step of a run are logged; one by hand is kept


def slower(scene: Document, *names: str) -> Document:
    """The scene in which some agents tick at every other step."""
    agents = {name: {**agent, **(HALF if name in names else {})} for name, agent in scene["agents"].items()}
    return {**scene, "agents": agents}


HELD: Document = {"coupling": "unlocked", "input": {"kind": "linear", "context": ["held", "age"]}}
RELEASED: dict[str, Document] = {
    "losses over a delay": chain(3, {**LOCAL, "link": {"delay": 1, "drop": 0.4}}),
    "noise": chain(3, {**DETACHED, "link": {"noise": 0.3, "bits": 4}}),
    "longer windows": chain(3, LOCAL, agent=TWICE),
    "a slower receiver": slower(chain(3, LOCAL), "m1", "m2"),
    "a slower sender": slower(chain(3, LOCAL), "m0"),
    "the mean of several": slower(chain(3, {**DETACHED, "read": "mean"}), "m1", "m2"),
    "synthetic inputs": chain(3, {**LOCAL, **HELD}),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", RELEASED)
def test_what_is_released_is_read_by_nothing(name: str) -> None:
    """Released in a run or kept by single steps: the same bits."""
    scene = swept(RELEASED[name])
    with made(scene, "cohort") as released, made(scene, "cohort") as each:
        released.run(8)
        for _ in range(8):
            each.step()
        for agent in each.agents:
            assert equal(parameters(each, agent), parameters(released, agent))
