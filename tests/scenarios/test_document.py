"""The scenario itself: its keys, what it accepts, what it refuses and in which words, what follows from it, of states and symbols too."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from antiphon.scenarios import (
    ChannelSpec,
    DocumentError,
    GradientSpec,
    NetworkSpec,
    ObjectiveSpec,
    Scenario,
)
from antiphon.scenarios.relations import tied_agents
from tests.scenarios.made import OBJECTIVE, agents, channels, document, recurrent, refused, state


def test_channels_are_known_by_ends_and_key() -> None:
    scenario = Scenario.model_validate(channels(*({"key": key} for key in ("x", 2, 0, 10))))
    assert [channel.name for channel in scenario.channels] == ["a->b", "a->b:2", "a->b:10", "a->b:x"]
    slugs = ["a__to__b", "a__to__b__2", "a__to__b__10", "a__to__b__x"]
    assert [channel.slug for channel in scenario.channels] == slugs
    assert ChannelSpec.model_validate({"from": "a", "to": "b", "key": "2"}).key == 2
    assert ChannelSpec(**{"from": "a", "to": "b"}) == ChannelSpec.model_validate({"from": "a", "to": "b"})


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
    assert scenario.relations.waves == (("a", "c"), ("b",), ("d",))
    assert [channel.name for channel in scenario.relations.inputs["d"]] == ["b->d", "c->d"]
    assert [channel.name for channel in scenario.relations.outputs["d"]] == ["d->a"]
    assert scenario.relations.inputs["b"] == scenario.relations.outputs["a"]


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
    assert scenario.relations.locked_groups == (("a", "b"), ("c",), ("d", "e"))
    assert scenario.readouts == tuple("abcde")
    assert [scenario.relations.window(group) for group in scenario.relations.locked_groups] == [
        12,
        "episode",
        1,
    ]


def test_a_sender_to_actors_has_the_longest_of_their_windows_if_it_has_none_of_its_own() -> None:
    acts = {"observes": ["image"], "objective": {"kind": "ppo"}}
    make: dict[str, Any] = {name: {"observes": ["image"], "objective": OBJECTIVE} for name in "abcde"}
    make |= {"a": {"observes": ["image"]}, "x": {**acts, "acts": "one"}}
    make["y"] = {**acts, "acts": "other", "clock": {"unroll": 24}}
    make["b"]["clock"] = {"unroll": 2}
    ends = ["ax", "ay", "bx", "cx", "de"]
    specs = [{"from": one, "to": other} for one, other in ends]
    specs[3]["coupling"] = "detached"
    scenario = Scenario.model_validate(document(agents=make, channels=specs))
    unrolls = {name: agent.clock.unroll for name, agent in scenario.agents.items()}
    assert unrolls == {"a": 24, "b": 2, "c": 1, "d": 1, "e": 1, "x": 16, "y": 24}
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario


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


# --- keys ------------------------------------------------------------------------------------------------


OF_OTHERS: list[tuple[type[Any], dict[str, Any], str]] = [
    (ObjectiveSpec, {"kind": "coding", "weight": 2}, "weight: coding has no weight"),
    (
        GradientSpec,
        {"kind": "linear", "network": None},
        "network: linear has no network; leave it out, or use local",
    ),
]
"""Parts of documents with keys that other kinds have, and the line of each."""


@pytest.mark.parametrize(("part", "keys", "line"), OF_OTHERS, ids=lambda value: str(value)[:30])
def test_a_key_of_other_kinds_is_told_which(part: type[Any], keys: dict[str, Any], line: str) -> None:
    with pytest.raises(DocumentError) as caught:
        part.model_validate(keys)
    assert str(caught.value).startswith(line)


# --- states ----------------------------------------------------------------------------------------------


def test_a_state_is_no_message() -> None:
    data = recurrent(
        state(), state(**{"from": "b", "to": "b"}), {"link": {"delay": 1}}, {"key": 1, "link": {"delay": 2}}
    )
    scenario = Scenario.model_validate(data)
    names = [channel.name for channel in scenario.channels]
    assert names == ["a->a", "a->a:1", "a->a:state", "a->b", "b->b:state"]
    assert scenario.channels[2].slug == "a__to__a__state"
    assert [channel.name for channel in scenario.channels if channel.state] == ["a->a:state", "b->b:state"]
    assert [channel.name for channel in scenario.relations.inputs["a"]] == ["a->a", "a->a:1"]
    assert [channel.name for channel in scenario.relations.outputs["b"]] == []
    assert scenario.relations.waves == (("a",), ("b",))
    assert scenario.relations.locked_groups == (("a",), ("b",))
    assert scenario.relations.states.get("b") is scenario.channels[4]
    assert Scenario.model_validate(recurrent()).relations.states.get("a") is None


def test_a_locked_state_makes_the_window_the_episode() -> None:
    assert Scenario.model_validate(recurrent(state())).relations.window(["a"]) == 1
    scenario = Scenario.model_validate(recurrent(state(coupling="locked")))
    assert [scenario.relations.window(group) for group in scenario.relations.locked_groups] == ["episode", 1]
    joined = recurrent(state(coupling="locked"), b={"clock": {"period": 2, "unroll": 3}})
    joined["channels"][0]["coupling"] = "locked"
    assert Scenario.model_validate(joined).relations.windows == {"a": "episode", "b": "episode"}


def test_an_agent_that_only_its_own_state_teaches_is_not_reached() -> None:
    data = recurrent(state())
    data["channels"][0]["coupling"] = "detached"
    assert "a" not in Scenario.model_validate(data).relations.reached
    data["channels"][1]["gradient"] = {"kind": "local", "target": "label"}
    assert "a" in Scenario.model_validate(data).relations.reached


# --- symbols ---------------------------------------------------------------------------------------------


WORDS: dict[str, Any] = {"sample": {"kind": "gumbel", "vocabulary": 8, "size": 2}}


def channel(**keys: Any) -> Any:
    return Scenario.model_validate(channels({**WORDS, **keys})).channels[0]


def test_the_size_is_vocabulary_times_length() -> None:
    assert channel().size == channel(size=16).size == channel(size=None).size == 16
    assert channel(size=[2, 8]).size == (2, 8)


def test_messages_that_a_policy_learns_are_detached() -> None:
    spoken = {"sample": {"kind": "reinforce", "vocabulary": 4}}
    goal = {"size": 3, "sample": {"kind": "gaussian", "noise": 0.5}}
    for keys in (spoken, goal):
        document = channels(keys)
        assert refused(document).endswith(
            "sampled messages are trained by their sender's policy, but 'a' has none; give it an objective of kind a2c, ppo or "
            "reinforce"
        )
        document["agents"]["a"]["objective"] = {"kind": "reinforce"}
        made = Scenario.model_validate(document).channels[0]
        assert made.coupling.name == "detached"
        assert made.learned_by_policy
    assert not channel().learned_by_policy
