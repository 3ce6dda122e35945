"""Scenarios under another learning rule."""

from __future__ import annotations

import pytest

from antiphon import Scenario
from antiphon.engine.planning.rivals.learning_rules import DECOUPLED, DELAYED, LOCAL, LOCKED, with_rule
from antiphon.errors import ScenarioError
from antiphon.scenarios import load

DIGITS = load("digits-mlp").resolve(None, {"width": 8})


def kinds(scenario: Scenario) -> set[tuple[str, str]]:
    return {
        (channel.coupling, str(channel.gradient.kind)) for channel in scenario.channels if not channel.state
    }


@pytest.mark.parametrize("variant", ["locked", "detached", "local", "decoupled"])
def test_a_rule_is_the_same_whatever_the_document_had(variant: str) -> None:
    scenario = load("digits-mlp").resolve(variant, {"width": 8})
    assert {coupling for coupling, _ in kinds(with_rule(scenario, LOCKED))} == {"locked"}
    assert {coupling for coupling, _ in kinds(with_rule(scenario, DELAYED))} == {"delayed"}
    assert kinds(with_rule(scenario, DECOUPLED)) == {("decoupled", "linear")}
    assert kinds(with_rule(scenario, LOCAL)) == {("decoupled", "local")}


def test_decoupled_keeps_the_documents_own_synthetic_gradient() -> None:
    scenario = load("digits-mlp").resolve(None, {"width": 8, "gradient": "sobolev"})
    assert with_rule(scenario, DECOUPLED).channels == scenario.channels


def without_targets(scenario: Scenario) -> Scenario:
    """Return a scenario whose synthetic gradients name no target."""
    channels = [
        channel.model_copy(update={"gradient": channel.gradient.model_copy(update={"target": None})})
        for channel in scenario.channels
    ]
    fields = {name: getattr(scenario, name) for name in Scenario.model_fields}
    return Scenario(**{**fields, "channels": channels})


def test_a_local_loss_is_on_the_readouts_target_where_the_document_names_none() -> None:
    found = with_rule(without_targets(DIGITS), LOCAL)
    assert {channel.gradient.target for channel in found.channels} == {"label"}


def test_a_local_loss_needs_a_target() -> None:
    scenario = without_targets(load("cartpole-team").resolve())
    with pytest.raises(ScenarioError, match=r"no target for a local loss; give gradient\.target"):
        with_rule(scenario, LOCAL)


def test_delays_are_those_given_and_receivers_of_late_examples_are_aligned() -> None:
    found = with_rule(DIGITS, DECOUPLED, 3)
    assert {channel.link.delay for channel in found.channels} == {3}
    assert all(found.agents[channel.receiver].align for channel in found.channels)
    assert {channel.link.delay for channel in with_rule(found, LOCKED).channels} == {0}


def test_channels_on_a_cycle_keep_a_delay() -> None:
    scenario = load("corporation").resolve(None, {"data": "digits"})
    own = {channel.name: channel.link.delay for channel in scenario.channels if not channel.state}
    found = {
        channel.name: channel.link.delay
        for channel in with_rule(scenario, LOCKED).channels
        if not channel.state
    }
    assert max(found.values()) > 0  # else it would be a cycle without delay
    assert all(found[name] in (0, delay) for name, delay in own.items())


def test_locked_agents_on_a_cycle_learn_once_an_episode_where_it_has_a_length() -> None:
    scenario = load("corporation").resolve(None, {"data": "digits"})
    locked = with_rule(scenario, LOCKED)
    assert {agent.clock.unroll for agent in locked.agents.values()} == {"episode"}
    assert with_rule(scenario, DECOUPLED).agents == scenario.agents
    assert {agent.clock.unroll for agent in with_rule(DIGITS, LOCKED).agents.values()} == {1}


def test_who_acts_is_not_aligned() -> None:
    scenario = load("referential-reward").resolve()
    found = with_rule(scenario, DECOUPLED, 1)
    assert found.agents["listener"].align is None


def test_what_a_policy_samples_stays_as_it_is() -> None:
    scenario = load("feudal-keydoor").resolve()
    sampled = [channel for channel in scenario.channels if channel.learned_by_policy]
    assert sampled
    kept = [channel for channel in with_rule(scenario, LOCKED).channels if channel.learned_by_policy]
    assert [channel.coupling for channel in kept] == [channel.coupling for channel in sampled]
