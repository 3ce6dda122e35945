"""Channels with a mask: where a signal is 0 there is no message, and what cannot know it refuses it (semantics 20)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.nets.random import uniform
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
