"""Library scenarios in which agents talk and act: what each variant couples, and who learns from what."""

from __future__ import annotations

import pytest

from antiphon.scenarios import Scenario, load, warnings

TALKING = ("cartpole-team", "referential-game", "referential-reward", "speaker-listener")
VARIANTS = ("locked", "detached", "local", "decoupled", "cut")


def cases() -> list[tuple[str, str]]:
    return [(name, variant) for name in (*TALKING, "feudal-keydoor") for variant in load(name).variants]


@pytest.mark.parametrize(("name", "variant"), cases())
def test_every_variant_resolves_round_trips_and_is_meant(name: str, variant: str) -> None:
    scenario = load(name).resolve(variant)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    meant = {
        "detached": ["reached by no learning signal"],
        "cut": ["loses every message"] + ["reached by no learning signal"] * (name != "feudal-keydoor"),
        "local-policy": ["update-locked"],
    }
    found = [line for line in warnings(scenario) if " is not used " not in line]
    assert len(found) == len(meant.get(variant, []))
    assert all(any(text in line for line in found) for text in meant.get(variant, []))


@pytest.mark.parametrize("name", TALKING)
def test_variants_differ_in_the_one_channel(name: str) -> None:
    template = load(name)
    assert tuple(template.variants)[:5] == VARIANTS
    assert template.resolve() == template.resolve("decoupled")
    for variant in template.variants:
        (channel,) = template.resolve(variant).channels
        coupling = {"locked": "locked", "detached": "detached", "cut": "detached"}.get(variant, "decoupled")
        assert channel.coupling == coupling
        assert channel.link.drop == (variant == "cut")
        kind = {"local": "local", "local-label": "local", "local-policy": "local_policy"}.get(variant, "mlp")
        if coupling == "decoupled":
            assert channel.gradient.kind == kind


@pytest.mark.parametrize("name", ["cartpole-team", "referential-reward"])
def test_the_control_of_policies_is_there_where_the_action_follows_at_once(name: str) -> None:
    assert "local-policy" in load(name).variants
    assert "local-policy" not in load("speaker-listener").variants


def test_the_motor_sees_nothing_but_the_message() -> None:
    motor = load("cartpole-team").resolve().agents["motor"]
    assert motor.observes == ()
    assert motor.objective is not None
    assert motor.objective.critic is not None
    assert motor.objective.critic.observes == ("observation",)


def test_synthetic_gradients_know_what_the_sender_observes() -> None:
    for name in TALKING:
        scenario = load(name).resolve()
        (channel,) = scenario.channels
        assert channel.gradient.context == scenario.agents[channel.sender].observes


def test_windows_of_manager_and_worker_end_together() -> None:
    scenario = load("feudal-keydoor").resolve()
    manager, worker = (scenario.agents[name].clock for name in ("manager", "worker"))
    assert manager.period * manager.unroll == worker.unroll
    assert not load("feudal-keydoor").resolve("random").agents["manager"].learn
    cut = load("feudal-keydoor").resolve("cut").agents["worker"].objective
    assert cut is not None
    assert cut.reward is not None
    assert cut.reward["goal.cosine"] == 0
