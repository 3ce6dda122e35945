"""Messages of symbols in a run: what is sent, over which links, what its gradient is, and what evaluation reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.core.records import Record
from antiphon.engine.inference.evaluation import examples
from antiphon.engine.inference.export import export
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import ExampleRollout
from antiphon.engine.simulation import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document, Play
from tests.engine.scenes import CLASSIFY, scenario_of

WORDS: Document = {"symbols": {"vocabulary": 3, "length": 2, "temperature": 0.5}}
SPEAKER: Document = {"observes": ["x"], "network": {"kind": "mlp", "hidden": [], "norm": "none"}}
LISTENER: Document = {**SPEAKER, "observes": ["y"], "objective": CLASSIFY}


def simulate(
    *channels: Document,
    backend: str = "cohort",
    a: Document | None = None,
    b: Document | None = None,
    **training: Any,
) -> Simulation:
    """Speaker and listener, in float64."""
    pair = {"a": {**SPEAKER, **(a or {})}, "b": {**LISTENER, **(b or {})}}
    ends = [{"from": "a", "to": "b", **channel} for channel in channels]
    scenario = scenario_of(pair, ends, Play(), **{"batch": 8, **training})
    return Simulation(scenario, seed=4, backend=backend, dtype=torch.float64)


def records(simulation: Simulation, channel: str = "a->b") -> dict[int, Record]:
    return simulation._system.channels[channel].ledger.records


def watched(simulation: Simulation, steps: int) -> dict[int, Tensor]:
    """The messages received at some steps, by stamp."""
    found: dict[int, Tensor] = {}
    for _ in range(steps):
        simulation.step()
        found |= {stamp: record.received.clone() for stamp, record in records(simulation).items()}
    return found


def test_a_message_is_one_hot_at_every_position() -> None:
    for message in watched(simulate(WORDS), 5).values():
        positions = message.view(8, 2, 3)
        assert torch.equal(positions.sum(2), torch.ones(8, 2, dtype=torch.float64))
        assert positions.unique().tolist() == [0.0, 1.0]


def test_channels_of_one_port_carry_one_message_and_other_ports_another() -> None:
    port = {**WORDS, "port": "word"}
    simulation = simulate(port, {**port, "key": "copy"}, {**WORDS, "key": "own"})
    simulation.step()
    first, copy, own = (records(simulation, name)[0].message for name in ("a->b", "a->b:copy", "a->b:own"))
    assert torch.equal(first, copy)
    assert not torch.equal(first, own)


def test_the_links_noise_and_bits_come_after_the_symbols() -> None:
    clean = watched(simulate(WORDS), 1)[0]
    noisy = watched(simulate({**WORDS, "link": {"noise": 0.01}}), 1)[0]
    assert 0 < (noisy - clean).abs().max() < 0.1
    rounded = watched(simulate({**WORDS, "link": {"bits": 1}}), 1)[0]  # the levels of one bit are -1 and 1
    assert torch.equal(rounded.view(8, 2, 3).argmax(2), clean.view(8, 2, 3).argmax(2))


def straight_through(simulation: Simulation, parameters: dict[str, Tensor]) -> Tensor:
    """The speaker's message of step 0, by hand, with its gradient: [8, 6]."""
    x = simulation.world.step_signals.signals["x"].double()
    logits = (x @ parameters["to_b.weight"].T + parameters["to_b.bias"]).view(8, 2, 3)
    noise = -torch.log(-torch.log(uniform(seed_for(4, "message", "a", "to_b"), 0, 48)))
    noisy = logits + noise.view(8, 2, 3)
    hard = torch.nn.functional.one_hot(noisy.argmax(-1), 3).double()
    soft = torch.softmax(noisy / 0.5, -1)
    return (soft + (hard - soft).detach()).flatten(1)


def leaves(simulation: Simulation, agent: str) -> dict[str, Tensor]:
    found = simulation._system.agents[agent].learner.parameters
    return {name: p.detach().clone().requires_grad_() for name, p in found.items()}


def assert_descended(simulation: Simulation, loss: Tensor, before: dict[str, Tensor]) -> None:
    """That one step has moved the speaker against the gradient of a loss (plain gradient descent at rate 1)."""
    gradients = dict(zip(before, torch.autograd.grad(loss, list(before.values())), strict=True))
    assert any(g.abs().max() > 1e-4 for g in gradients.values())
    for name, p in simulation._system.agents["a"].learner.parameters.items():
        assert torch.allclose(p, before[name] - gradients[name], atol=1e-12), name


SGD: Document = {"optimiser": {"kind": "sgd", "lr": 1.0}}


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_over_a_locked_channel_the_listeners_gradient_reaches_the_logits(backend: str) -> None:
    simulation = simulate({"coupling": "locked", **WORDS}, backend=backend, a=SGD, b=SGD)
    speaker, listener = leaves(simulation, "a"), leaves(simulation, "b")
    signals = simulation.world.step_signals.signals
    read = torch.cat([signals["y"].double(), straight_through(simulation, speaker)], 1)
    output = read @ listener["objective.weight"].T + listener["objective.bias"]
    loss = torch.nn.functional.cross_entropy(output, signals["label"])
    simulation.step()
    assert_descended(simulation, loss, speaker)


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_a_synthetic_gradient_is_injected_at_the_message_and_passes_through(backend: str) -> None:
    simulation = simulate(WORDS, backend=backend, a=SGD)
    injected = torch.linspace(-1.0, 1.5, 6, dtype=torch.float64)
    predictor = simulation._system.channels["a->b"].predictor
    assert predictor is not None
    predictor.parameters["last.bias"].data.copy_(injected)
    speaker = leaves(simulation, "a")
    loss = (straight_through(simulation, speaker) * injected).sum() / 8
    simulation.step()
    assert_descended(simulation, loss, speaker)


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_a_window_that_waits_sends_the_same_symbols_when_it_is_replayed(backend: str) -> None:
    channel = {"coupling": "delayed", "link": {"delay": 3}, **WORDS}
    simulation = simulate(channel, backend=backend, a={**SGD, "clock": {"unroll": 2}})
    sent: dict[int, Tensor] = {}
    for _ in range(12):
        simulation.step()
        state = simulation.backend.state_dict()["ledgers"]["a->b"]
        for record in (*state["records"], *state["loose"]):
            first = sent.setdefault(record["stamp"], record["message"].clone())
            assert torch.equal(record["message"], first)
    moved = simulation._system.agents["a"].learner.parameters["to_b.weight"]
    assert not torch.equal(
        moved, simulate(channel, a=SGD)._system.agents["a"].learner.parameters["to_b.weight"]
    )


def test_evaluation_and_the_exported_module_send_the_most_probable_symbols() -> None:
    scenario = scenario_of(
        {"a": {**SPEAKER, "observes": ["image"]}, "b": {**SPEAKER, "observes": [], "objective": CLASSIFY}},
        [{"from": "a", "to": "b", **WORDS}],
        batch=8,
    )
    simulation = Simulation(scenario, seed=4)
    simulation.run(3)
    system = simulation._system
    batch = next(examples(simulation._env, "test", limit=40))
    sent: list[torch.Tensor] = []
    rollout = ExampleRollout(
        system, batch, Links("as_run"), seed=9, deliver=lambda *each: sent.append(each[2]) or each[2]
    )
    (message,) = sent
    parameters = {name: p.detach() for name, p in system.agents["a"].learner.parameters.items()}
    logits = batch["image"].flatten(1) @ parameters["to_b.weight"].T + parameters["to_b.bias"]
    likely = torch.nn.functional.one_hot(logits.view(40, 2, 3).argmax(-1), 3).float().flatten(1)
    assert torch.equal(message, likely)
    composed = export(system, ["b"])(batch["image"])["b"]
    assert torch.allclose(composed, rollout.ports["b"][OBJECTIVE].detach(), atol=1e-6)


def test_a_synthetic_input_predicts_the_mean_of_the_one_hots() -> None:
    """Its squared error is least at the probabilities of the symbols."""
    words = {"symbols": {"vocabulary": 3, "by": "gumbel"}, "link": {"drop": 0.5}, "input": {"kind": "linear"}}
    simulation = simulate(
        words, a={"learn": False}, b={"learn": False}, batch=64, predictor={"kind": "sgd", "lr": 0.02}
    )
    channel = simulation._system.channels["a->b"]
    parameters = simulation._system.agents["a"].learner.parameters
    parameters["to_b.weight"].data.zero_()
    parameters["to_b.bias"].data.copy_(torch.tensor([1.0, 0.0, -1.0]))
    simulation.run(300)
    assert channel.input is not None
    predicted = channel.input.predict(None, 64)[0]
    assert torch.allclose(predicted, torch.softmax(parameters["to_b.bias"], 0), atol=0.05)
