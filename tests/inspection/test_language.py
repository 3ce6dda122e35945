"""The language of symbols in systems whose language is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.envs import from_sequences, from_tensors
from antiphon.inspection.language import entropy
from tests.contracts.builders import Play
from tests.contracts.games import Game
from tests.engine.numbers import unchanged
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of
from tests.kit.documented import language

CLASSES = 4


def talking(*, deaf: bool = False, mute: bool = False, **channel: Any) -> Simulation:
    """A speaker that names the class it sees and a listener that repeats it, by weights made by hand."""
    label = torch.arange(CLASSES).repeat(16)
    thing = torch.eye(CLASSES)[label]
    low = (label < 2).float()
    env = from_tensors(thing=thing, label=label, half=label // 2, low=low, test=0.0, validation=0.0)
    agents: dict[str, Any] = {
        "a": {"observes": ["thing"], "network": LINEAR_MAP},
        "b": {"network": LINEAR_MAP, "objective": CLASSIFY},
    }
    sample = {"kind": "gumbel", "vocabulary": CLASSES}
    channels = [{"from": "a", "to": "b", "sample": sample, "coupling": "locked", **channel}]
    simulation = Simulation(scenario_of(agents, channels, env))
    speaker, listener = (simulation.agents[name].parameters for name in "ab")
    for parameters, head, off in ((speaker, "to_b", mute), (listener, "objective", deaf)):
        parameters[f"{head}.weight"].data.copy_((0 if off else 40) * torch.eye(CLASSES))
        parameters[f"{head}.bias"].data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    return simulation


def test_what_is_not_sent_is_not_measured() -> None:
    (found,) = language(talking(mask="low"), split="train").values()
    assert (found.messages, found.different) == (32, 2)
    assert found.information["label"] == pytest.approx(1.0)


def test_a_language_that_names_every_class() -> None:
    simulation = talking()
    with unchanged(simulation):
        (found,) = language(simulation, split="train").values()
    assert (found.messages, found.different) == (64, 4)
    assert found.entropy == (pytest.approx(2.0),)
    for bits in (found.message_entropy, found.information["label"], found.signalling):
        assert bits == pytest.approx(2.0)
    assert found.information["half"] == pytest.approx(1.0)  # of which nobody in the run asks
    assert found.topographic_similarity == pytest.approx(1.0)
    assert found.listening == pytest.approx(2.0, abs=1e-4)
    assert found.information_share == {"label": pytest.approx(1.0), "half": pytest.approx(1.0)}


def test_nobody_listens_or_the_same_symbol_always() -> None:
    (found,) = language(talking(deaf=True), split="train").values()
    assert found.signalling == pytest.approx(2.0)
    assert found.listening == pytest.approx(0.0)
    (found,) = language(talking(mute=True), split="train").values()
    assert found.different == 1
    assert found.information_share == {"label": 0.0, "half": 0.0}
    assert found.message_entropy == found.signalling == found.information["label"] == 0.0
    assert found.topographic_similarity is None
    assert found.listening == pytest.approx(0.0)


@pytest.mark.parametrize("acts", [False, True])
def test_in_an_environment_all_ticks_are_measured_and_no_bit_changes(acts: bool) -> None:
    speaker: dict[str, Any] = {"observes": ["x"], "network": LINEAR_MAP}
    listener: dict[str, Any] = {"observes": ["y"], "network": LINEAR_MAP}
    own: dict[str, Any] = {"objective": {"kind": "a2c"}, "clock": {"unroll": 2}}
    words: dict[str, Any] = {"sample": {"kind": "gumbel", "vocabulary": 4, "size": 2}, "link": {"delay": 1}}
    agents = {"a": {**speaker, "clock": {"period": 2}}, "b": {**listener, "objective": CLASSIFY}}
    env: Any = Play(share=0.1)
    if acts:
        agents = {"a": {**speaker, **own}, "b": {**listener, **own, "acts": True}}
        words, env = {"sample": {"kind": "reinforce", "vocabulary": 4}}, Game(space="choice", share=0.2)
    simulation = Simulation(scenario_of(agents, [{"from": "a", "to": "b", **words}], env))
    simulation.run(4)
    with unchanged(simulation):
        (found,) = language(simulation, examples=128).values()
    assert found.messages >= 128
    assert found.signalling > 0
    assert found.listening is not None
    assert found.listening > 0
    assert acts or 0 < found.information["label"] < math.log2(3)


def test_padding_is_no_message_and_episodes_are_measured_to_their_ends() -> None:
    """Of 64 sequences the last alone goes on after step 3, to step 30, with a symbol of its own."""
    classes = [torch.tensor([1, 2, 1][: 1 + i % 3]) for i in range(63)] + [torch.full((30,), 3)]
    things = [torch.eye(CLASSES)[of_sequence] for of_sequence in classes]
    data = {"thing": things, "label": classes}
    env = from_sequences(**data, test=data, validation=data, training_only=["label"])
    agents: dict[str, Any] = {
        "a": {"observes": ["thing"], "network": LINEAR_MAP},
        "b": {"network": LINEAR_MAP, "objective": CLASSIFY, "clock": {"unroll": "episode"}},
    }
    sample = {"kind": "gumbel", "vocabulary": CLASSES}
    scenario = scenario_of(
        agents, [{"from": "a", "to": "b", "sample": sample, "coupling": "detached"}], env, batch=64
    )
    with Simulation(scenario) as simulation:
        for name, head in (("a", "to_b"), ("b", "objective")):
            parameters = simulation.agents[name].parameters
            parameters[f"{head}.weight"].data.copy_(40 * torch.eye(CLASSES))
            parameters[f"{head}.bias"].data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        (found,) = language(simulation).values()
        counts = torch.bincount(torch.cat(classes), minlength=CLASSES).double()
        right = torch.special.entr(counts / counts.sum()).sum().item() / math.log(2)
        assert (found.messages, found.different) == (int(counts.sum()), 3)
        assert found.entropy == (pytest.approx(right),)
        assert found.information["label"] == pytest.approx(right)
        at_steps = [torch.tensor([int(of[t]) for of in classes if len(of) > t]) for t in range(30)]
        heard = sum(len(at_step) * entropy(at_step) for at_step in at_steps) / int(counts.sum())
        assert found.listening == pytest.approx(heard, abs=1e-4)
