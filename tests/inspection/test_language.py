"""The language of symbols in systems whose language is known, and the measures of the probes in the small, by hand."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.envs import from_tensors
from antiphon.inspection.ablation import Change
from antiphon.inspection.language import (
    entropy,
    information_share,
    language,
    mutual_information,
    topographic_similarity,
)
from tests.contracts.builders import Play
from tests.contracts.games import Game
from tests.engine.numbers import unchanged
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

CLASSES = 4


def talking(**channel: Any) -> Simulation:
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
    for parameters, head in ((speaker, "to_b"), (listener, "objective")):
        parameters[f"{head}.weight"].data.copy_(40 * torch.eye(CLASSES))
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
    assert found.message_entropy == found.information["label"] == pytest.approx(2.0)
    assert found.information["half"] == pytest.approx(1.0)  # of which nobody in the run asks
    assert found.topographic_similarity == pytest.approx(1.0)
    assert found.information_share == {"label": pytest.approx(1.0), "half": pytest.approx(1.0)}


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
    assert found.message_entropy > 0
    assert acts or 0 < found.information["label"] < math.log2(3)


# --- measures --------------------------------------------------------------------------------------------


HALF = 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
"""1 - H(1/4): what two bits tell of each other that are equal three times of four."""


def test_entropy_and_mutual_information_in_bits() -> None:
    assert entropy(torch.tensor([3, 3, 3])) == 0.0
    assert entropy(torch.tensor([[0, 1], [0, 1], [1, 1], [1, 0]])) == pytest.approx(1.5)
    four = torch.arange(4)
    assert mutual_information(four, four.flip(0)) == pytest.approx(2.0)
    assert mutual_information(four // 2, four % 2) == pytest.approx(0.0)
    assert mutual_information(torch.stack([four // 2, four % 2], 1), four) == pytest.approx(2.0)
    a, b = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    assert mutual_information(a, b) == pytest.approx(HALF)


def one_hot(symbols: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(symbols, classes).flatten(1).double()


def test_topographic_similarity_of_known_languages() -> None:
    things = torch.tensor(list(product(range(3), repeat=2)))
    assert topographic_similarity(one_hot(things, 3), things) == pytest.approx(1.0)
    holistic = things[torch.tensor([4, 0, 7, 2, 8, 3, 5, 1, 6])]
    assert abs(topographic_similarity(one_hot(things, 3), holistic)) < 0.4
    assert math.isnan(topographic_similarity(one_hot(things, 3), torch.zeros_like(things)))
    # of one pair and another: cosines 0, 1 and 1 - 1/sqrt(2), edits 1, 2 and 1: ranks 1, 3, 2 and 1.5, 3, 1.5
    seen, said = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0, 0], [0, 1], [1, 0]])
    assert topographic_similarity(seen, said) == pytest.approx(0.5)


def test_a_share_of_information_has_none_of_what_few_samples_show_by_chance() -> None:
    random = torch.Generator().manual_seed(0)
    said, label = (torch.randint(8, (64,), generator=random) for _ in range(2))
    assert mutual_information(said, label) > 0.4
    assert information_share(said, label) < 0.1
    half = torch.where(torch.arange(64) < 32, label, said)
    assert 0.2 < information_share(half, label) < 0.7
    assert information_share(7 - label, label) == pytest.approx(1.0)


@pytest.mark.long
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    draws = torch.randn(2000, 12, generator=torch.Generator().manual_seed(2)) + 0.5
    covered = [
        abs(c.value - 0.5) <= c.half for row in draws if (c := Change.of("loss", row)).half is not None
    ]
    assert sum(covered) / 2000 == pytest.approx(0.95, abs=0.02)
    assert Change.of("loss", torch.ones(1)).half is None
    few = torch.rand(2000, 60, generator=torch.Generator().manual_seed(3)) < 0.25  # have the other's target
    of_two = torch.randn(2000, 2, 60, generator=torch.Generator().manual_seed(4)) + torch.tensor(
        [[0.2], [0.8]]
    )
    of_two[:, 1] = of_two[:, 1].where(few, torch.nan)
    counts = torch.randint(1, 6, (2000, 2, 60), generator=torch.Generator().manual_seed(5)).float()
    for given in ([None] * 2000, counts):
        changes = [Change.of("loss", pairs, of_pairs) for pairs, of_pairs in zip(of_two, given, strict=True)]
        covered = [abs(c.value - 0.5) <= c.half for c in changes if c.half is not None]
        assert sum(covered) / 2000 == pytest.approx(0.95, abs=0.03)
    for value, half, verdict in ((0.2, 0.1, "helps"), (-0.2, 0.1, "harms"), (0.1, 0.2, "unresolved")):
        assert Change(value, half).verdict == verdict
    assert Change(0.2, None).verdict == "unresolved"
