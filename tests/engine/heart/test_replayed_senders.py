"""Senders in the further passes of their receivers: how many updates they take, and what is refused (rule 42b).

What they learn is held to a loop by hand (tests/numerics/test_policies.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from antiphon import RunError, Scenario, ScenarioError, Simulation, Template
from antiphon.comms import Coupling, CreditedMessage
from tests.contracts.builders import Document
from tests.contracts.documents import more, pairs
from tests.kit.resigned import rewrite_state

WINDOWS = 3
PASSES = "channels[0].gradient.passes"
AT_ONCE = f"{PASSES}: needs the receiver's learning signal at the same step, but "


def team(
    *,
    sensor: Document | None = None,
    motor: Document | None = None,
    gradient: Document | None = None,
    **channel: Any,
) -> Scenario:
    """A sensor that sends what it observes of a pole to a motor, which learns in three passes."""
    shared = {"network": {"hidden": [8]}, "clock": {"unroll": 4}}
    given = {
        "kind": "linear",
        "context": ["observation"],
        "gate": "none",
        "passes": "all",
        **(gradient or {}),
    }
    own = {key: value for key, value in given.items() if value is not None}
    return Scenario.model_validate(
        {
            "scenario": "team",
            "env": {"id": "antiphon/CartPole-v0"},
            "agents": {
                "sensor": {"observes": ["observation"], **shared, **(sensor or {})},
                "motor": {
                    **shared,
                    "acts": True,
                    "objective": {"kind": "ppo", "epochs": 3, "minibatches": 2},
                    **(motor or {}),
                },
            },
            "channels": [{"from": "sensor", "to": "motor", "size": 2, "gradient": own, **channel}],
            "training": {"batch": 8, "steps": 4 * WINDOWS},
        }
    )


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("gradient", "steps"),
    [
        ({}, 5),
        ({"gate": "auto"}, 5),
        ({"passes": "first"}, 1),
        ({"passes": None}, 1),
        ({"passes": "first", "gate": "auto"}, 0),
        ({"scale": 0, "discount": 0}, 0),
    ],
)
def test_a_sender_takes_a_step_in_each_minibatch_of_its_receiver(gradient: Document, steps: int) -> None:
    with Simulation(team(gradient=gradient), seed=1) as simulation:
        simulation.run()
        taken = {name: simulation.agents[name].updates for name in ("sensor", "motor")}
        assert taken == {"sensor": steps * WINDOWS, "motor": 5 * WINDOWS}


def test_a_gate_of_another_rule_is_refused(tmp_path: Path) -> None:
    """Few comparisons without skill left a gate shut that would be open by the present rule."""
    with Simulation(team(gradient={"gate": "auto"}), seed=1) as simulation:
        simulation.run(8)
        saved = simulation.save(tmp_path / "saved")
    content = json.loads((saved / "state.json").read_text())
    (gate,) = content["state"]["system"]["gates"].values()
    Simulation.load(saved).close()
    gate.update(cosine=0.1, variance=0.01, count=4.0, open=0.0)
    rewrite_state(saved, json.dumps(content))
    with pytest.raises(
        RunError, match="its gate opens and shuts by the rule of another version: begin the run anew"
    ):
        Simulation.load(saved)


REFUSED: dict[str, tuple[Document, str]] = {
    "one epoch": (
        {"motor": {"objective": {"kind": "ppo", "epochs": 1}}},
        f"{PASSES}: all needs further passes of 'motor'; give it ppo or q with 2 or more epochs, or make passes first",
    ),
    "its own target": (
        {"gradient": {"kind": "local", "target": "observation"}},
        f"{PASSES}: all needs a gradient that learns returned gradients alone, not local; use linear",
    ),
    "a critic": ({"gradient": {"kind": "sobolev"}}, "not sobolev; use linear, or make passes first"),
    "an input": ({"input": "linear"}, f"{PASSES}: all does not go with input; leave that out"),
    "symbols": (
        {"size": None, "sample": {"kind": "gumbel", "vocabulary": 3}},
        f"{PASSES}: all does not go with sample; leave that out",
    ),
    "a state": (
        {"sensor": {"network": {"kind": "gru"}}},
        f"{PASSES}: all needs ends without a state, and 'sensor' has one; use a network of another kind",
    ),
    "some windows": (
        {"sensor": {"learn": 0.5}},
        f"{PASSES}: all needs ends that learn from each window, and 'sensor' does not; leave out its learn",
    ),
    "a delay": ({"link": {"delay": 1}}, f"{AT_ONCE}the link has a delay of 1; make it 0, or leave it out"),
    "losses": ({"link": {"drop": 0.1}}, f"{AT_ONCE}the link has a drop of 0.1; make it 0, or leave it out"),
    "other windows": (
        {"sensor": {"clock": {"unroll": 2}}},
        f"{AT_ONCE}'sensor' and 'motor' learn at different steps; give them the same clock",
    ),
    "no context": (
        {"gradient": {"gate": None, "context": []}},
        f"{PASSES}: all needs a context beside a gate, which shuts too late for the code; name signals, make gate none, or make passes first",
    ),
    "batch norm": (
        {"sensor": {"network": {"hidden": [8], "norm": "batch"}}},
        "agents.sensor.network.norm: batch norm has different statistics in each minibatch of ppo",
    ),
    "batch norm of the message": (
        {"norm": "batch"},
        "channels[sensor->motor].norm: batch norm has different statistics in each minibatch of ppo; use layer or none",
    ),
}
"""By name: keys of `team`, and a part of the line."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_is_refused(name: str) -> None:
    changes, line = REFUSED[name]
    with pytest.raises(ScenarioError, match=re.escape(line)), Simulation(team(**changes)):
        pass


class Halved(Coupling):
    """Half of what is predicted."""

    predicts = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        return None if message.applied_prediction is None else message.applied_prediction / 2


def test_nor_is_a_coupling_of_ones_own_whose_credit_would_be_left_out() -> None:
    line = "is a coupling of your own; make it decoupled, or make passes first"
    with pytest.raises(ScenarioError, match=f"passes: all injects predictions, and .*{line}"):
        team(coupling=Halved)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "gradient",
    [
        {"rescale": "none"},
        {"optimiser": {}},
        {"gate": "none"},
        {"kind": "mlp"},
        {"kind": "mlp", "norm": "batch"},
    ],
)
def test_a_saved_run_goes_on_in_all_passes(gradient: Document, tmp_path: Path) -> None:
    with Simulation(team(gradient=gradient), seed=1) as simulation:
        simulation.run(4)
        saved = simulation.save(tmp_path / "saved")
        simulation.run(4)
        whole = {
            name: parameter.tolist() for name, parameter in simulation.agents["sensor"].parameters.items()
        }
    with Simulation.load(saved) as again:
        assert again.scenario == simulation.scenario
        again.run(4)
        assert whole == {
            name: parameter.tolist() for name, parameter in again.agents["sensor"].parameters.items()
        }


def test_a_shadow_with_all_passes_is_applied_in_mid_run() -> None:
    gradient = {"kind": "mlp", "scale": 0, "discount": 0}
    with Simulation(team(gradient=gradient), seed=1) as simulation:
        simulation.run(4)
        simulation.set("sensor->motor.scale", 0.5)
        simulation.run(4)
        assert simulation.agents["sensor"].updates == 5


def test_a_shadow_whose_gate_has_no_state_is_refused_where_it_is_applied() -> None:
    shadow: Document = {"gate": "auto", "scale": 0, "discount": 0}
    with Simulation(team(gradient=shadow), seed=1) as simulation:
        simulation.run(4)
        with pytest.raises(ScenarioError, match=r"has no state for; .* gradient: \{gate: none\}"):
            simulation.set("sensor->motor.scale", 0.5)


class Own(nn.Module):
    """A layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Whitened(Own):
    """Less the mean over the samples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x - x.mean(0))


class Recalling(Own):
    """With a state."""

    state_size = 3

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> Any:
        return self.layer(x), state


def recalling(inputs: int, outputs: int) -> Recalling:
    """A factory, of whose networks nothing is known before."""
    return Recalling(inputs, outputs)


def test_a_module_of_ones_own_is_replayed() -> None:
    with Simulation(team(sensor={"network": Own}), seed=1) as simulation:
        simulation.run()
        assert simulation.agents["sensor"].updates == 5 * WINDOWS


@pytest.mark.parametrize(
    ("kind", "reason"), [(Whitened, ""), (recalling, "its network has a state; use first")]
)
def test_a_network_whose_ticks_or_samples_depend_on_each_other_is_refused(kind: Any, reason: str) -> None:
    line = "gradient.passes: all replays ticks and environments apart, and those of 'sensor' depend on each other: "
    with pytest.raises(ScenarioError, match=re.escape(line + reason)):
        Simulation(team(sensor={"network": kind}))


def test_a_further_channel_without_an_effect_is_none_of_several() -> None:
    document = yaml.safe_load(team().to_yaml())
    (channel,) = document["channels"]
    shadow = {**channel, "key": "shadow", "gradient": {**channel["gradient"], "scale": 0, "discount": 0}}
    scenario = Scenario.model_validate({**document, "channels": [channel, shadow]})
    assert [one.replayed for one in scenario.channels] == [True, False]
    with pytest.raises(ScenarioError, match="'sensor' has several"):
        Scenario.model_validate({**document, "channels": [channel, {**channel, "key": "second"}]})


def test_a_sender_with_rewards_is_refused() -> None:
    gradient = {"kind": "linear", "passes": "all"}
    document = more(
        pairs({"kind": "ppo", "epochs": 2}), {}, {"from": "a0", "to": "a1", "size": 3, "gradient": gradient}
    )
    line = "gradient.passes: all is for senders without rewards, and 'a0' learns from some; leave out its objective"
    with pytest.raises(ScenarioError, match=re.escape(line)):
        Scenario.model_validate(document)


VARIANTS = """
parameters: {coupling: {choices: [locked, detached, decoupled], default: decoupled}}
variants: {locked: {coupling: locked}, detached: {coupling: detached}, decoupled: {}}
"""


@pytest.mark.parametrize(("variant", "steps"), [("locked", 5), ("detached", 0), ("decoupled", 5)])
def test_a_template_sets_it_for_all_its_variants(variant: str, steps: int) -> None:
    """A channel that predicts nothing makes no use of it."""
    text = team(coupling="detached").to_yaml().replace("coupling: detached", "coupling: $coupling")
    scenario = Template.from_yaml(text + VARIANTS).resolve(variant)
    assert scenario.channels[0].gradient.passes == "all"
    with Simulation(scenario, seed=1) as simulation:
        simulation.run()
        assert simulation.agents["sensor"].updates == steps * WINDOWS


def test_nothing_is_asked_of_the_receiver_of_a_locked_channel() -> None:
    with Simulation(team(coupling="locked", motor={"objective": {"kind": "ppo", "epochs": 1}})) as simulation:
        simulation.run(4)
        assert simulation.agents["sensor"].updates == 1
