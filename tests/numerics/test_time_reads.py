"""What a slower receiver makes of several messages (`read`), against finite differences of the losses that are reported.

Nothing of the engine's inside is used: a number is moved, the simulation goes on, and its losses tell.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import Record, StepSignals
from antiphon.scenarios import Scenario
from tests.numerics.played import Played
from tests.numerics.whole import DOUBLE, drawn

BATCH, STEPS, EPSILON = 5, 48, 1e-5
Nudges = dict[tuple[str, int], Tensor]


@pytest.fixture
def nudges(monkeypatch: pytest.MonkeyPatch) -> Nudges:
    """What is added to messages as they are sent, by channel and stamp."""
    added: Nudges = {}
    genuine = GradientLedger.send

    def send(ledger: GradientLedger, step: int, message: Tensor, moment: StepSignals) -> Record:
        nudge = added.get((ledger.name, step))
        return genuine(ledger, step, message if nudge is None else message + nudge, moment)

    monkeypatch.setattr(GradientLedger, "send", send)
    return added


def pair(
    coupling: str,
    read: str,
    *,
    sender: tuple[int, int] = (1, 0),
    receiver: tuple[int, int] = (3, -1),
    unroll: int = 2,
    delay: int = 0,
    still: bool = False,
) -> Simulation:
    """A fast agent and a slow one that reads it; both are recurrent and have an objective of their own.

    With `still`, the fast one stays as it is: a number moved in a message moves no message after it.
    """
    shown = {"x": drawn(0, STEPS, BATCH, 3), "y": drawn(1, STEPS, BATCH, 2), "z": drawn(2, STEPS, BATCH, 2)}
    network = {"kind": "gru", "size": 4}

    def clock(at: tuple[int, int]) -> dict[str, int]:
        return {"period": at[0], "phase": at[1], "unroll": unroll}

    agents: dict[str, Any] = {
        "a": {"observes": ["x"], "clock": clock(sender), "objective": {"kind": "regression", "target": "y"}},
        "b": {"clock": clock(receiver), "objective": {"kind": "regression", "target": "z"}},
    }
    if still:
        agents["a"]["optimiser"] = {"kind": "sgd", "lr": 1e-300}
    channel: dict[str, Any] = {
        "from": "a",
        "to": "b",
        "size": 3,
        "norm": "none",
        "read": read,
        "coupling": coupling,
    }
    channel |= {"link": {"delay": delay}, "gradient": {"kind": "linear", "context": ["z"]}}
    document: dict[str, Any] = {
        "scenario": "reads",
        "env": Played(shown, ("y", "z"), endless=True),
        "agents": {name: {"network": network, **agent} for name, agent in agents.items()},
        "channels": [channel],
        "training": {"batch": BATCH, "optimiser": {"kind": "adam", "lr": 0.02}},
    }
    return Simulation(Scenario.model_validate(document), dtype=DOUBLE)


def losses(simulation: Simulation, steps: int, agent: str | None = None) -> float:
    """What an agent, or both, lose in so many steps."""
    found = [simulation.step()["losses"] for _ in range(steps)]
    return sum(float(loss) for step in found for name, loss in step.items() if agent in (None, name))


CLOCKS = [
    pytest.param({}, id="three to one"),
    pytest.param({"delay": 1}, id="delayed"),
    pytest.param({"sender": (2, 1), "receiver": (4, 3), "delay": 3}, id="two to one, late"),
]


@pytest.mark.parametrize("read", ["last", "mean", "concat"])
@pytest.mark.parametrize("clocks", CLOCKS)
def test_over_a_locked_channel_every_parameter_follows_both_losses(read: str, clocks: dict[str, Any]) -> None:
    with pair("locked", read, **clocks) as simulation:
        window = 2 * clocks.get("receiver", (3, -1))[0]
        simulation.run(2 * window)
        before = simulation.fork()
        simulation.run(window)
        (update,) = simulation.learned.updates
        for agent in "ab":
            parameters = simulation.agents[agent].parameters
            for name, gradient in zip(parameters, update.gradients[agent], strict=True):
                assert gradient is not None, name
                assert float(gradient.abs().max()) > 1e-3, name
                index = int(gradient.abs().argmax())
                slope = 0.0
                for sign in (1, -1):
                    twin = before.fork()
                    twin.agents[agent].parameters[name].data.view(-1)[index] += sign * EPSILON
                    slope += sign * losses(twin, window) / (2 * EPSILON)
                assert float(gradient.view(-1)[index]) == pytest.approx(slope, abs=1e-8, rel=1e-6), name


@pytest.mark.parametrize("read", ["last", "mean", "concat"])
@pytest.mark.parametrize("clocks", [*CLOCKS, pytest.param({"sender": (2, 0)}, id="two to three")])
def test_over_a_decoupled_channel_every_message_gets_its_own(
    read: str, clocks: dict[str, Any], nudges: Nudges
) -> None:
    if read == "concat" and clocks.get("sender") == (2, 0):
        return  # side by side, there must be equally many each time
    with pair("decoupled", read, still=True, **clocks) as simulation:
        window = 2 * clocks.get("receiver", (3, -1))[0]
        delay = clocks.get("delay", 0)
        simulation.run(2 * window - delay)
        before = simulation.fork()
        start, examples = simulation.now, []
        for _ in range(window + 2 * delay):
            simulation.step()
            lesson = simulation.learned.predictor_updates.get("a->b")
            examples += [] if lesson is None else lesson.examples
        sent: dict[int, Tensor] = {}
        twin = before.fork()
        for _ in range(window):
            step = twin.now
            twin.step()
            message = twin.channels["a->b"].messages.get(step)
            if message is not None:
                sent[step] = message.value
        checked = 0
        for stamp, message in sent.items():
            found = [e.delta for e in examples if torch.equal(e.message, message)]
            delta = found[0] if found else torch.zeros_like(message)
            assert delta is not None
            for index in (0, int(delta.abs().argmax())):
                slope = 0.0
                for sign in (1, -1):
                    nudges["a->b", stamp] = torch.zeros_like(message)
                    nudges["a->b", stamp].view(-1)[index] = sign * EPSILON
                    slope += sign * BATCH * losses(before.fork(), window + delay, "b") / (2 * EPSILON)
                nudges.clear()
                assert float(delta.view(-1)[index]) == pytest.approx(slope, abs=1e-7, rel=1e-6), stamp
                checked += abs(slope) > 1e-3
        assert start == before.now
        assert checked >= (2 if read == "last" else len(sent) - 1)
