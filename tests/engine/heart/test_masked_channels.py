"""Channels with a mask: where a signal is 0 there is no message, and what cannot know it refuses it (semantics 20)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete

import antiphon
from antiphon import Simulation
from antiphon.nets.random import uniform
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, Document, document
from tests.contracts.twins import made
from tests.reference.backend import Chosen, reference

BACKENDS = pytest.mark.parametrize("backend", ["cohort", reference])
LINEAR: Document = {"network": {"kind": "mlp", "hidden": [], "norm": "none"}}
SEED, BATCH = 3, 4


def pair(**channel: Any) -> Document:
    """Agent a tells agent b, which classifies, where it is near."""
    agents = {"a": {"observes": ["x"], **LINEAR}, "b": {"observes": ["y"], **LINEAR, "objective": LABEL}}
    told = {"from": "a", "to": "b", "size": 4, "norm": "none", "link": {"delay": 1}, "mask": "near"}
    return document(agents, [{**told, "gradient": {"kind": "linear"}, **channel}])


@BACKENDS
@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_where_a_mask_is_zero_nothing_is_sent_counted_or_injected(coupling: str, backend: Chosen) -> None:
    seen = []
    clock = {"clock": {"unroll": 2}}
    scene = pair(coupling=coupling)
    scene["agents"] = {name: {**agent, **clock} for name, agent in scene["agents"].items()}
    with made({**scene, "telemetry": {"period": 1}}, backend, seed=SEED) as simulation:
        history = simulation.history
        for step in range(10):
            simulation.step()
            message = simulation.channels["a->b"].messages[step]
            far = uniform(97 * SEED + 14, step, BATCH) >= 0.6
            seen.append(far)
            assert torch.equal(message.void, far)
            assert torch.equal(message.injects, ~far)
            assert torch.equal(message.value.any(1), ~far)
            read = simulation.channels["a->b"].messages.get(step - 1)
            if read is not None and read.finished is not None and coupling == "decoupled":
                assert torch.equal(read.counted, ~seen[step - 1])
                assert read.gradient is not None
                assert torch.equal(read.gradient.any(1), ~seen[step - 1])
        bits = [4 * torch.finfo(simulation.dtype).bits * (~far).double().mean().item() for far in seen]
        assert [row["a->b.traffic"] for row in history.rows()] == bits
    assert {True, False} == set(torch.stack(seen).flatten().tolist())


@BACKENDS
@pytest.mark.parametrize("gradient", [{"kind": "linear"}, {"kind": "local", "target": "label"}])
def test_a_message_that_is_sent_nowhere_moves_nothing_by_momentum(
    gradient: Document, backend: Chosen
) -> None:
    scene = pair(gradient=gradient)
    scene["training"]["batch"] = 1
    moved: dict[bool, list[bool]] = {True: [], False: []}
    with made(scene, backend, seed=SEED) as simulation:
        models = [simulation.agents["a"]]
        if gradient["kind"] == "local":
            models.append(simulation.channels["a->b"].synthetic_gradient)
        for step in range(14):
            before = [{name: value.clone() for name, value in own.parameters.items()} for own in models]
            simulation.step()
            near = bool(uniform(97 * SEED + 14, step, 1) < 0.6)
            for own, values in zip(models, before, strict=True):
                changed = any(not torch.equal(own.parameters[name], values[name]) for name in values)
                moved[near].append(changed)
    assert moved[False]
    assert not any(moved[False])
    assert any(moved[True])


@BACKENDS
def test_traffic_of_an_aligned_sender_follows_the_mask_at_its_sending(backend: Chosen) -> None:
    scene = pair()
    scene["agents"]["first"] = {"observes": ["x"], **LINEAR}
    scene["agents"]["a"] = {"align": True, **LINEAR}
    scene["channels"].append({"from": "first", "to": "a", "size": 4, "norm": "none", "link": {"delay": 1}})
    with made({**scene, "telemetry": {"period": 1}}, backend, seed=SEED) as simulation:
        history, bits = simulation.history, []
        for step in range(8):
            simulation.step()
            near = uniform(97 * SEED + 14, step, BATCH) < 0.6
            bits.append(4 * torch.finfo(simulation.dtype).bits * near.double().mean().item())
        assert [row["a->b.traffic"] for row in history.rows()] == bits


@antiphon.environment("masked/Heard-v0")
class Heard(antiphon.envs.World):
    """What `a` sees is said while it is near; `b` sees nothing."""

    randoms = 2

    class Options(antiphon.envs.World.Options):
        hidden: bool = False

    @staticmethod
    def describe(options: Any) -> antiphon.envs.Description:
        signal = antiphon.envs.Signal
        near = signal(training_only=options.hidden)
        signals = {"seen": signal(shape=(1,)), "near": near, "nothing": signal(shape=(1,))}
        return antiphon.envs.Description(signals=signals, action_space=Discrete(2))

    def start(self, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"seen": 2 * uniforms[:, :1].round() - 1, "near": uniforms[:, 1].round()}

    def transition(self, state: Any, actions: Any) -> Any:
        return {}, torch.zeros(self.num_envs), torch.ones(self.num_envs, dtype=torch.bool)

    def observe(self, state: Any) -> Any:
        return {**state, "nothing": torch.zeros(self.num_envs, 1)}


def heard(hidden: bool = False, mask: str | None = "near", **channel: Any) -> Document:
    """A listener without eyes acts on what is said."""
    clock = {"clock": {"unroll": 2}}
    agents = {
        "a": {"observes": ["seen"], **LINEAR, **clock},
        "b": {"observes": ["nothing"], **LINEAR, "acts": True, "objective": "ppo", **clock},
    }
    told = {"from": "a", "to": "b", "size": 1, "norm": "none", "mask": mask, **channel}
    told = {key: value for key, value in told.items() if value is not None}
    env = {"id": "masked/Heard-v0", "hidden": hidden}
    return {"scenario": "heard", "env": env, "agents": agents, "channels": [told]}


def test_a_policy_reads_a_mask_that_the_environment_shows() -> None:
    with Simulation(Scenario.model_validate(heard())) as simulation:
        for name, head in (("a", "to_b"), ("b", "objective")):
            simulation.agents[name].parameters[f"{head}.weight"].data.fill_(1.0)
            simulation.agents[name].parameters[f"{head}.bias"].data.zero_()
        simulation.agents["b"].parameters["objective.weight"].data[0] = -1.0
        simulation.agents["b"].parameters["objective.bias"].data[0] = 0.5  # where nothing is said
        shown = {"seen": torch.ones(4, 1).numpy(), "nothing": torch.zeros(4, 1).numpy()}
        action = simulation.policy().act({**shown, "near": torch.tensor([0.0, 1.0, 0.0, 1.0]).numpy()})
    assert action.tolist() == [0, 1, 0, 1]
