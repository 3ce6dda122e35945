"""State channels: what they ask of their agent, what they cannot have, and what follows from them."""

from __future__ import annotations

from antiphon.scenarios import Scenario
from tests.scenarios.made import recurrent, state


def test_a_state_is_no_message() -> None:
    data = recurrent(
        state(), state(**{"from": "b", "to": "b"}), {"link": {"delay": 1}}, {"key": 1, "link": {"delay": 2}}
    )
    scenario = Scenario.model_validate(data)
    names = [channel.name for channel in scenario.channels]
    assert names == ["a->a", "a->a:1", "a->a:state", "a->b", "b->b:state"]
    assert scenario.channels[2].slug == "a__to__a__state"
    assert [channel.name for channel in scenario.channels if channel.state] == ["a->a:state", "b->b:state"]
    assert [channel.name for channel in scenario.inputs_of("a")] == ["a->a", "a->a:1"]
    assert [channel.name for channel in scenario.outputs_of("b")] == []
    assert scenario.waves() == (("a",), ("b",))
    assert scenario.locked_groups() == (("a",), ("b",))
    assert scenario.state_channel_of("b") is scenario.channels[4]
    assert Scenario.model_validate(recurrent()).state_channel_of("a") is None


def test_a_locked_state_makes_the_window_the_episode() -> None:
    assert Scenario.model_validate(recurrent(state())).window(["a"]) == 1
    scenario = Scenario.model_validate(recurrent(state(coupling="locked")))
    assert [scenario.window(group) for group in scenario.locked_groups()] == ["episode", 1]
    joined = recurrent(state(coupling="locked"), b={"clock": {"period": 2, "unroll": 3}})
    joined["channels"][0]["coupling"] = "locked"
    assert Scenario.model_validate(joined).windows == {"a": "episode", "b": "episode"}


def test_an_agent_that_only_its_own_state_teaches_is_not_reached() -> None:
    data = recurrent(state())
    data["channels"][0]["coupling"] = "detached"
    assert "a" not in Scenario.model_validate(data).relations.reached
    data["channels"][1]["gradient"] = {"kind": "local", "target": "label"}
    assert "a" in Scenario.model_validate(data).relations.reached
