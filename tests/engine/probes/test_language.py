"""Measures of the language of symbols: values by hand, and systems whose language is known."""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.probes.language import (
    causal_influence,
    edit_distances,
    entropy,
    language,
    language_rows,
    mutual_information,
    signalling,
    spearman,
    topographic_similarity,
)
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from tests.contracts.builders import Play
from tests.contracts.games import Game
from tests.engine.numbers import assert_same_state, kept
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of


def test_entropy_in_bits() -> None:
    assert entropy(torch.tensor([3, 3, 3])) == 0.0
    assert entropy(torch.tensor([0, 0, 1, 1])) == pytest.approx(1.0)
    assert entropy(torch.tensor([[0, 1], [0, 1], [1, 1], [1, 0]])) == pytest.approx(1.5)
    assert entropy(torch.tensor([0, 1, 1, 1])) == pytest.approx(0.25 * 2 + 0.75 * math.log2(4 / 3))


def test_mutual_information_in_bits() -> None:
    four = torch.arange(4)
    assert mutual_information(four, four.flip(0)) == pytest.approx(2.0)
    assert mutual_information(four, four // 2) == pytest.approx(1.0)
    assert mutual_information(four // 2, four % 2) == pytest.approx(0.0)
    assert mutual_information(torch.stack([four // 2, four % 2], 1), four) == pytest.approx(2.0)
    # p(0, 0) = p(1, 1) = 3/8, p(0, 1) = p(1, 0) = 1/8: 1 - H(1/4)
    a, b = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    assert mutual_information(a, b) == pytest.approx(1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))


def test_rank_correlation_gives_equal_values_their_mean_rank() -> None:
    up = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert spearman(up, up.exp()) == pytest.approx(1.0)
    assert spearman(up, -up) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4
    tied, other = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0, 4.0])
    assert spearman(tied, other) == pytest.approx(4.5 / math.sqrt(4.5 * 5.0))
    # ranks 1.5, 1.5, 3 and 1, 2.5, 2.5: deviations (-.5, -.5, 1) and (-1, .5, .5)
    assert spearman(torch.tensor([0, 0, 5]), torch.tensor([1, 7, 7])) == pytest.approx(0.5)
    assert math.isnan(spearman(tied, torch.ones(4)))


def test_edit_distances() -> None:
    kitten, sitting = (torch.tensor([[ord(letter) for letter in word]]) for word in ("kitten", "sitting"))
    assert edit_distances(kitten, sitting).tolist() == edit_distances(sitting, kitten).tolist() == [3]
    words = list(product(range(3), repeat=3))
    pairs = list(product(words, words))

    @cache
    def by_recursion(a: tuple[int, ...], b: tuple[int, ...]) -> int:
        if not a or not b:
            return len(a) + len(b)
        change = by_recursion(a[1:], b[1:]) + (a[0] != b[0])
        return min(change, by_recursion(a[1:], b) + 1, by_recursion(a, b[1:]) + 1)

    found = edit_distances(torch.tensor([a for a, _ in pairs]), torch.tensor([b for _, b in pairs]))
    assert found.tolist() == [by_recursion(a, b) for a, b in pairs]


def attributes(count: int) -> Tensor:
    """All pairs of two attributes, [count^2, 2]."""
    return torch.tensor(list(product(range(count), repeat=2)))


def one_hot(symbols: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(symbols, classes).flatten(1).double()


def test_topographic_similarity_of_known_languages() -> None:
    things = attributes(3)
    compositional = topographic_similarity(one_hot(things, 3), things)
    assert compositional == pytest.approx(1.0)
    holistic = things[torch.tensor([4, 0, 7, 2, 8, 3, 5, 1, 6])]
    assert abs(topographic_similarity(one_hot(things, 3), holistic)) < 0.4
    assert math.isnan(topographic_similarity(one_hot(things, 3), torch.zeros_like(things)))
    # of one pair and another: cosines 0, 1 and 1 - 1/sqrt(2), edits 1, 2 and 1: ranks 1, 3, 2 and 1.5, 3, 1.5
    seen, said = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0, 0], [0, 1], [1, 0]])
    distances, edits = torch.tensor([0.0, 1 - 0.5**0.5, 1 - 0.5**0.5]), torch.tensor([1, 1, 2])
    assert (
        topographic_similarity(seen, said) == pytest.approx(spearman(distances, edits)) == pytest.approx(0.5)
    )


def test_signalling_is_what_symbols_tell_of_what_was_read() -> None:
    told = one_hot(attributes(2), 2).view(4, 2, 2)
    assert signalling(told) == pytest.approx(2.0)
    assert signalling(torch.full((4, 2, 2), 0.5)) == pytest.approx(0.0)
    assert signalling(told[:1].expand(4, -1, -1)) == 0.0
    half = torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]]])
    assert signalling(half) == pytest.approx(1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))


def test_listening_is_what_messages_change() -> None:
    decided = torch.eye(4).unsqueeze(1).expand(-1, 3, -1)  # by the message, whoever reads it
    assert causal_influence(decided, torch.ones(4)) == pytest.approx(2.0)
    assert causal_influence(decided, torch.tensor([1, 1, 0, 0])) == pytest.approx(1.0)
    assert causal_influence(decided, torch.tensor([2, 1, 1, 0])) == pytest.approx(1.5)
    assert causal_influence(torch.eye(4).expand(3, -1, -1), torch.ones(3)) == pytest.approx(0.0)


# --- of systems ------------------------------------------------------------------------------------------

CLASSES = 4


def talking(*, deaf: bool = False, mute: bool = False) -> Simulation:
    """A speaker that names the class it sees and a listener that repeats it, by weights made by hand."""
    label = torch.arange(CLASSES).repeat(16)
    half = label // 2
    thing = one_hot(label.unsqueeze(1), CLASSES).float()
    env = from_tensors(thing=thing, label=label, half=half, test=0.0, validation=0.0)
    agents: dict[str, Any] = {
        "a": {"observes": ["thing"], "network": LINEAR_MAP},
        "b": {"network": LINEAR_MAP, "objective": CLASSIFY},
    }
    channels = [{"from": "a", "to": "b", "symbols": {"vocabulary": CLASSES}, "coupling": "locked"}]
    simulation = Simulation(scenario_of(agents, channels, env))
    speaker, listener = (simulation._system.agents[name].learner.parameters for name in "ab")
    for parameters, head, off in ((speaker, "to_b", mute), (listener, "objective", deaf)):
        parameters[f"{head}.weight"].data.copy_(
            torch.zeros(CLASSES, CLASSES) if off else 40 * torch.eye(CLASSES)
        )
        parameters[f"{head}.bias"].data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    return simulation


def test_a_language_that_names_every_class() -> None:
    simulation = talking()
    before = kept(simulation._state_dict())
    (found,) = language(simulation, split="train").values()
    assert_same_state(simulation, before)
    assert (found.messages, found.different) == (64, 4)
    assert found.entropy == (pytest.approx(2.0),)
    for bits in (found.message_entropy, found.information["label"], found.signalling):
        assert bits == pytest.approx(2.0)
    assert found.information["half"] == pytest.approx(1.0)  # of which nobody in the run asks
    assert found.topographic_similarity == pytest.approx(1.0)
    assert found.listening == pytest.approx(2.0, abs=1e-4)
    rows = {row.metric: row.value for row in language_rows({"a->b": found})}
    assert rows.keys() == {"message_entropy", "topographic_similarity", "signalling", "listening"}


def test_nobody_listens() -> None:
    (found,) = language(talking(deaf=True), split="train").values()
    assert found.signalling == pytest.approx(2.0)
    assert found.listening == pytest.approx(0.0)


def test_the_same_symbol_always() -> None:
    (found,) = language(talking(mute=True), split="train").values()
    assert found.different == 1
    assert found.message_entropy == found.signalling == found.information["label"] == 0.0
    assert found.topographic_similarity is None
    assert found.listening == pytest.approx(0.0)


def test_in_an_environment_all_ticks_are_measured() -> None:
    speaker: dict[str, Any] = {"observes": ["x"], "network": LINEAR_MAP, "clock": {"period": 2}}
    agents = {"a": speaker, "b": {"observes": ["y"], "network": LINEAR_MAP, "objective": CLASSIFY}}
    words = {"symbols": {"vocabulary": 4, "length": 2}, "link": {"delay": 1}}
    simulation = Simulation(scenario_of(agents, [{"from": "a", "to": "b", **words}], Play(share=0.1)))
    simulation.run(4)
    before = kept(simulation._state_dict())
    (found,) = language(simulation, examples=320).values()
    assert_same_state(simulation, before)
    assert found.messages >= 320
    assert 0 < found.information["label"] < math.log2(3)
    assert found.listening is not None
    assert found.listening > 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"channels": ["b->a"]}, "language: channel 'b->a' does not exist; known: a->b"),
    ],
)
def test_what_is_refused(options: Any, line: str) -> None:
    with pytest.raises(ScenarioError, match=f"^{line}$"):
        language(talking(), **options)


def test_without_symbols_there_is_no_language() -> None:
    agents: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    simulation = Simulation(scenario_of(agents, [{"from": "a", "to": "b"}]))
    with pytest.raises(ScenarioError, match="no channel carries symbols"):
        language(simulation)


def test_a_policy_listens_to_a_policy() -> None:
    own: dict[str, Any] = {"network": LINEAR_MAP, "clock": {"unroll": 2}, "objective": {"kind": "a2c"}}
    agents = {"a": {**own, "observes": ["x"]}, "b": {**own, "observes": ["y"], "acts": True}}
    words = {"from": "a", "to": "b", "symbols": {"vocabulary": 4, "by": "reinforce"}}
    simulation = Simulation(scenario_of(agents, [words], Game(space="choice", share=0.2)))
    simulation.run(3)
    (found,) = language(simulation, examples=128).values()
    assert found.messages >= 128
    assert found.signalling > 0
    assert found.listening is not None
    assert found.listening > 0
