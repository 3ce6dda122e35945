"""The scenario itself: what it accepts, what it refuses and in which words, what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from antiphon.scenarios import ChannelSpec, DocumentError, NetworkSpec, Scenario
from antiphon.scenarios.tied_parameters import tied_agents
from tests.scenarios.made import OBJECTIVE, agents, channels, document


def test_channels_are_known_by_ends_and_key() -> None:
    scenario = Scenario.model_validate(channels(*({"key": key} for key in ("x", 2, 0, 10))))
    assert [channel.name for channel in scenario.channels] == ["a->b", "a->b:2", "a->b:10", "a->b:x"]
    slugs = ["a__to__b", "a__to__b__2", "a__to__b__10", "a__to__b__x"]
    assert [channel.slug for channel in scenario.channels] == slugs
    assert ChannelSpec.model_validate({"from": "a", "to": "b", "key": "2"}).key == 2
    assert ChannelSpec(**{"from": "a", "to": "b"}) == ChannelSpec.model_validate({"from": "a", "to": "b"})


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"link": {"written_delay": 2}},
            "link.written_delay: unknown key 'written_delay'; known: bits, delay",
        ),
        (
            {"link": {"delay": 1, "written_delay": 2}},
            "link.written_delay: unknown key 'written_delay'; known: bits, delay",
        ),
        ({"sender": "a"}, "sender: unknown key 'sender'; known: "),
        ({"receiver": "b"}, "receiver: unknown key 'receiver'; known: "),
    ],
)
def test_a_key_has_one_name(keys: dict[str, Any], line: str) -> None:
    with pytest.raises(DocumentError) as caught:
        ChannelSpec.model_validate({"from": "a", "to": "b", **keys})
    assert str(caught.value).startswith(line)


def test_order_of_agents_and_channels_does_not_matter() -> None:
    names = ["c", "a", "b"]
    make = {name: {"observes": ["image"], "objective": OBJECTIVE} for name in names}
    ends = [{"from": one, "to": other, "link": {"delay": 1}} for one in names for other in names]
    one = Scenario.model_validate(document(agents=make, channels=ends))
    other = Scenario.model_validate(document(agents=dict(reversed(make.items())), channels=ends[::-1]))
    assert one == other
    assert one.to_yaml() == other.to_yaml()
    assert [channel.name for channel in one.channels][:4] == ["a->a", "a->b", "a->c", "b->a"]


def test_a_word_is_an_environment_without_options() -> None:
    word = Scenario.model_validate(document(env="antiphon/Digits-v0"))
    assert word == Scenario.model_validate(document(env={"id": "antiphon/Digits-v0"}))
    assert Scenario.from_yaml(word.to_yaml()) == word


def joined(*names: str, **arcs: str) -> Scenario:
    """A scenario of agents that all observe; arcs like `a_b="locked 1"` give coupling and delay."""
    specs = []
    for ends, text in arcs.items():
        sender, receiver = ends.split("_")
        coupling, delay = text.split()
        specs.append({"from": sender, "to": receiver, "coupling": coupling, "link": {"delay": int(delay)}})
    make = {name: {"observes": ["image"], "objective": OBJECTIVE} for name in names}
    return Scenario.model_validate(document(agents=make, channels=specs))


def test_waves_follow_channels_without_delay() -> None:
    scenario = joined(
        *"abcd", a_b="decoupled 0", b_d="locked 0", d_a="decoupled 1", c_d="detached 0", c_c="delayed 2"
    )
    assert scenario.waves() == (("a", "c"), ("b",), ("d",))
    assert [channel.name for channel in scenario.inputs_of("d")] == ["b->d", "c->d"]
    assert [channel.name for channel in scenario.outputs_of("d")] == ["d->a"]
    assert scenario.inputs_of("b") == scenario.outputs_of("a")


def test_locked_groups_and_windows() -> None:
    make: dict[str, Any] = {name: {"observes": ["image"], "objective": OBJECTIVE} for name in "abcde"}
    make["a"]["clock"] = {"period": 2, "unroll": 3}
    make["b"]["clock"] = {"period": 4}
    make["c"]["clock"] = {"unroll": "episode"}
    specs = [
        {"from": "b", "to": "a", "coupling": "locked"},
        {"from": "d", "to": "e", "coupling": "locked"},
        {"from": "a", "to": "d"},
    ]
    scenario = Scenario.model_validate(document(agents=make, channels=specs))
    assert scenario.locked_groups() == (("a", "b"), ("c",), ("d", "e"))
    assert scenario.readouts == tuple("abcde")
    assert [scenario.window(group) for group in scenario.locked_groups()] == [12, "episode", 1]


def test_agents_are_tied_through_others() -> None:
    ties = [["c.x", "a.x"], ["b.y", "c.y"], ["d.x", "e.x"]]
    found = {name: set(its) for name, its in tied_agents(ties).items()}
    assert found == {name: set("abc" if name in "abc" else "de") for name in "abcde"}


@pytest.mark.parametrize("kind", ["rnn", "leaky", "gru", "lstm"])
def test_recurrent_kinds_are_written_with_the_size_of_their_cell(kind: str) -> None:
    network = NetworkSpec.model_validate(kind)
    assert network.recurrent
    scenario = Scenario.model_validate(agents(a={"network": kind}))
    assert yaml.safe_load(scenario.to_yaml())["agents"]["a"]["network"] == {"kind": kind, "size": 128}
