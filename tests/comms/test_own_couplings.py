"""A user's own coupling, or predictor, is a class with keys, and the training step asks it as it asks antiphon's own (rule 27d)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import antiphon
from antiphon import Scenario, Simulation
from antiphon.comms import Coupling, CreditedMessage, Example, Predictor, ReadKind
from antiphon.scenarios import ChannelSpec
from antiphon.testing import check
from tests.contracts.builders import LABEL, Document, Play, document, levels, ring
from tests.distributed.parts.stages import different, learned
from tests.engine.numbers import one_line

LINK: Document = {"link": {"delay": 1, "drop": 0.25}}
GRADIENT: Document = {"kind": "linear", "context": ["label"], "scale": 0.5, "discount": 0.3}
SOON: Document = {"optimiser": {"kind": "sgd", "lr": 0.1}}


class Waiting(Coupling):
    """The returned gradient, which is waited for."""

    uses_returned = waits = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.returned_gradient


class Predicting(Coupling):
    """The prediction."""

    predicts = allows_states = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.applied_prediction


class Joining(Coupling):
    """The graph of a window."""

    joins_endpoints = True

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        return ReadKind.WITH_GRAPH if same_window else ReadKind.CONSTANT


class Mixed(Coupling):
    """Returned and predicted gradient."""

    predicts = uses_returned = waits = True

    class Options(antiphon.Options):
        """Keys of the mixture.

        Attributes:
            share: Share of the returned gradient.
        """

        share: float = 0.5

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        if message.returned_gradient is None or message.applied_prediction is None:
            return None
        return torch.lerp(message.applied_prediction, message.returned_gradient, self.share)


class Soonest(Coupling):
    """The returned gradient where it has come back by the end of the window, else the prediction; it notes which."""

    predicts = uses_returned = True
    noted: ClassVar[dict[tuple[int, int], bool]] = {}
    """By step and stamp of a message: whether its gradient was back."""

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        here = message.returned_gradient is not None
        self.noted[step, message.stamp] = here
        return message.returned_gradient if here else message.applied_prediction


class Replayed(Coupling):
    """How far the present parameters have moved a message."""

    uses_returned = waits = True
    moved: ClassVar[list[float]] = []

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        self.moved.append(float((message.now - message.sent).abs().max()))
        return message.returned_gradient


def simulated(coupling: Any, steps: int = 12, stacked: bool = True, **keys: Any) -> Simulation:
    """Return two levels of agents, and a coupling of the channels between them, after some steps."""
    channel = {"coupling": coupling, "gradient": GRADIENT, **LINK, **keys.pop("channel", {})}
    agent = keys.pop("agent", {})
    scenario = Scenario.model_validate(
        levels(low=agent, high=agent, channel=channel, wide=True, **SOON, **keys)
    )
    simulation = Simulation(scenario, seed=3, dtype=torch.float64, stacked=stacked)
    simulation.run(steps)
    return simulation


def of_agents(simulation: Simulation) -> dict[str, Tensor]:
    with simulation:
        agents = simulation.agents.items()
        return {f"{a} {key}": p.detach().clone() for a, one in agents for key, p in one.parameters.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize(
    ("own", "name", "keys"),
    [
        (Waiting, "delayed", {}),
        (Predicting, "decoupled", {}),
        (Joining, "locked", {"channel": {"link": {"delay": 1}}, "agent": {"clock": {"unroll": 3}}}),
    ],
)
def test_a_copy_of_a_coupling_computes_its_bits(
    own: type[Coupling], name: str, keys: Document, stacked: bool
) -> None:
    mine, theirs = (of_agents(simulated(one, stacked=stacked, **keys)) for one in (own, name))
    assert same(mine, theirs)
    assert not same(mine, of_agents(simulated("detached", stacked=stacked, **keys)))


def test_a_gradient_is_there_once_its_link_has_brought_it_back() -> None:
    """Of four messages, sent at steps 0 to 3 and read a step later, one gradient has taken its two steps back at step 3."""
    Soonest.noted.clear()
    slow = [{"clock": {"unroll": 4}}, {}]
    channel = [
        {"coupling": Soonest, "link": {"delay": [1, 2]}},
        {"coupling": "detached", "link": {"delay": 1}},
    ]
    scenario = Scenario.model_validate(ring(2, agent=slow, channel=channel, **SOON))
    whole = Simulation(scenario, seed=3)
    whole.run(8)
    back = [True, False, False, False]
    assert Soonest.noted == {(step, step - 3 + i): there for step in (3, 7) for i, there in enumerate(back)}
    Soonest.noted.clear()
    divided = Simulation(scenario, seed=3, parts=2)
    divided.run(8)
    assert list(Soonest.noted.values()) == 2 * back
    assert not different(learned(divided), learned(whole))
    whole.close()
    divided.close()


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_gradient_is_there_after_the_step_at_which_a_window_without_a_tick_completes_it() -> None:
    """The message of step 7 is read at 10, where an episode ends; the next one, to 12, has no tick, and completes its gradient."""
    Soonest.noted.clear()
    seen = {"observes": ["x"], "objective": LABEL}
    agents = {
        "a": {**seen, "clock": {"period": 5, "phase": 2, "unroll": 3}},
        "b": {**seen, "clock": {"period": 4, "phase": 2, "unroll": "episode"}},
    }
    channel = {"from": "a", "to": "b", "size": 2, "coupling": Soonest, "link": {"delay": [3, 0]}}
    scenario = Scenario.model_validate(document(agents, [channel], Play(lengths=(11, 2))))
    with Simulation(scenario, seed=3) as simulation:
        simulation.run(13)
    assert Soonest.noted == {(12, 2): True, (12, 7): False}


def test_a_window_that_has_waited_is_replayed_with_the_present_parameters() -> None:
    Replayed.moved.clear()
    simulated(Replayed, channel={"link": {"delay": 1}}).close()
    assert len(Replayed.moved) > 10
    assert Replayed.moved[0] == 0  # nothing has been learned before
    assert 0 < Replayed.moved[-1] < 1


class Relaxed(Mixed):
    """A mixture that is waited for at first."""

    def waits_for(self, stamp: int, step: int) -> bool:
        return stamp < 4

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return (
            super().credit(message, step)
            if message.returned_gradient is not None
            else message.applied_prediction
        )


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_coupling_may_stop_waiting() -> None:
    """A message of step t and its gradient take a step each: a window that is waited for is learned from at step t + 2."""

    def updates(own: Any) -> list[int]:
        with simulated(own, steps=0, channel={"link": {"delay": 1}}) as simulation:
            return [(simulation.step(), simulation.agents["a0"].updates)[1] for _ in range(8)]

    assert updates("delayed") == [0, 0, 1, 2, 3, 4, 5, 6]
    assert updates("decoupled") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert updates(Relaxed) == [0, 0, 1, 2, 4, 6, 7, 8]  # at steps 4 and 5 two windows are learned from


@pytest.mark.long
@pytest.mark.parametrize("own", [Waiting, Predicting, Joining, Mixed, Relaxed])
def test_the_check_tries_it_alone_stacked_saved_and_in_parts(own: type[Coupling]) -> None:
    check(own, point="coupling")


# --- in scenario files ---------------------------------------------------------------------------------------


@pytest.fixture
def _named() -> None:
    antiphon.coupling("mixed")(Mixed)


DOCUMENT = """
scenario: own
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image]}
  mind: {objective: {kind: classification, target: label}}
channels:
  - {from: eye, to: mind, size: 8, coupling: {kind: mixed, share: 0.25}, gradient: {context: [label]}}
training: {batch: 4, steps: 4}
"""


@pytest.mark.usefixtures("_named")
def test_its_keys_are_read_checked_and_written() -> None:
    scenario = Scenario.from_yaml(DOCUMENT)
    (channel,) = scenario.channels
    assert channel.coupling.name == "mixed"
    assert isinstance(channel.coupling, Mixed)
    assert channel.coupling.share == 0.25
    assert "coupling: {kind: mixed, share: 0.25}" in scenario.to_yaml()
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    bare = Scenario.from_yaml(DOCUMENT.replace("{kind: mixed, share: 0.25}", "mixed"))
    assert "coupling: mixed" in bare.to_yaml()
    line = "channels[0].coupling.sahre: unknown key 'sahre'; did you mean 'share'?"
    with one_line(re.escape(line)):
        Scenario.from_yaml(DOCUMENT.replace("share", "sahre"))


# --- antiphon's own --------------------------------------------------------------------------------------


LOCAL = {"kind": "local", "target": "label"}
SOBOLEV = {"kind": "sobolev_label", "target": "label"}
LOST: dict[str, Any] = {"link": {"drop": 1}}
STANDS_IN: dict[str, Any] = {**LOST, "input": "linear"}


@pytest.mark.parametrize(
    ("name", "keys", "returns", "alone"),
    [
        ("locked", {}, True, False),
        ("delayed", {}, True, False),
        ("delayed", LOST, False, False),
        ("detached", {}, False, False),
        ("decoupled", {}, True, False),
        ("decoupled", {"gradient": {"scale": 0}}, True, False),
        ("decoupled", {"gradient": {"scale": 0, "discount": 0}}, False, False),
        ("decoupled", {"gradient": LOCAL}, False, True),
        ("decoupled", {"gradient": LOCAL, **LOST}, False, True),
        ("decoupled", {"gradient": SOBOLEV}, True, True),
        ("decoupled", {"gradient": SOBOLEV, **LOST}, False, False),
        ("decoupled", STANDS_IN, True, False),
        ("unlocked", STANDS_IN, True, False),
    ],
)
def test_what_the_sender_learns_from(name: str, keys: dict[str, Any], returns: bool, alone: bool) -> None:
    """`returns`: from gradients that the receiver returns; `alone`: although it may return nothing."""
    channel = ChannelSpec.model_validate({"from": "a", "to": "b", "coupling": name, **keys})
    assert channel.credits_from_receiver is returns
    assert channel.credits_alone is alone


# --- predictors ------------------------------------------------------------------------------------------


Tensors = dict[str, Tensor]


class RunningMean(Predictor):
    """The running mean of the returned gradients of each component."""

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Tensors, Tensors]:
        return {}, {"mean": torch.zeros(outputs)}

    def _predict(self, example: Example) -> Tensor:
        return self.buffers["mean"].unsqueeze(-2).expand_as(example.message)

    def _loss(self, example: Example) -> Tensor:
        assert example.returned is not None
        return (self._predict(example) - example.returned).square().sum((-2, -1)) / example.message.shape[-2]

    def loss_and_gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor | None]]:
        examples = [self.read(example) for example in examples]
        returned = [
            example.valid.zero_elsewhere(e) for example in examples if (e := example.returned) is not None
        ]
        newest = torch.stack([gradient.mean(-2) for gradient in returned]).mean(0)
        loss = torch.stack([self._loss(example) for example in examples]).sum(0)
        self.put_statistics({"mean": self.buffers["mean"].lerp(newest, 0.1)})
        return loss, []


def scenario() -> Scenario:
    return Scenario.model_validate(levels(channel={"gradient": {"kind": RunningMean}}, count=1))


def means(simulation: Simulation) -> dict[str, Tensor]:
    return {name: channel.synthetic_gradient.buffers["mean"] for name, channel in simulation.channels.items()}


def test_its_buffers_learn_and_are_saved(tmp_path: Path) -> None:
    with Simulation(scenario(), seed=1) as simulation:
        simulation.run(10)
        simulation.save(tmp_path / "saved")
        simulation.run(5)
    with Simulation.load(tmp_path / "saved", scenario=scenario()) as resumed:
        resumed.run(5)
        for name, mean in means(resumed).items():
            assert mean.any()
            assert torch.equal(mean, means(simulation)[name])
