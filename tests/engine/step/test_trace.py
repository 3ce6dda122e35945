"""What is put on a message beside the plain prediction: traces, propagation, clipping, schedules, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.backward_requests import value_of
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import AgentTick, Record, StepSignals, Tape
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.forward import ForwardPass
from antiphon.scenarios import Scenario
from tests.engine.numbers import all_parameters, equal, one_line, predictor_of
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

BATCH, SIZE = 8, 4
DOUBLE = torch.float64
DEEP = {"kind": "mlp", "hidden": [6], "norm": "layer", "activation": "tanh"}


def chain(
    names: str = "abcd",
    network: dict[str, Any] = DEEP,
    *,
    link: dict[str, Any] | None = None,
    coupling: str = "decoupled",
    clock: dict[str, Any] | None = None,
    optimiser: dict[str, Any] | None = None,
    **gradient: Any,
) -> Scenario:
    """Agents one after the other, every second of which has an objective; the last always."""
    agents: dict[str, Any] = {name: {"network": network, "clock": clock or {}} for name in names}
    agents[names[0]]["observes"] = ["image"]
    for name in names[::-2]:
        agents[name]["objective"] = CLASSIFY
    channel = {"size": SIZE, "norm": "none", "coupling": coupling, "link": link or {}}
    channel["gradient"] = {"kind": "linear", "context": ["label"], **gradient}
    channels = [{"from": s, "to": r, **channel} for s, r in pairwise(names)]
    return scenario_of(agents, channels, steps=20, optimiser=optimiser or {"kind": "adam", "lr": 0.01})


def furthest(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def injected_in(simulation: Simulation) -> dict[str, Tensor]:
    """What was injected at the newest step, by channel."""
    return {k: v for update in simulation.learned.updates for k, v in update.injected.items()}


def run(scenario: Scenario, steps: int = 20) -> list[Tensor]:
    with Simulation(scenario, dtype=DOUBLE) as simulation:
        simulation.run(steps)
        return all_parameters(simulation)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records of all messages sent, in order."""
    found: list[Record] = []
    genuine = GradientLedger.send

    def send(ledger: GradientLedger, step: int, message: Tensor, moment: StepSignals) -> Record:
        found.append(genuine(ledger, step, message, moment))
        return found[-1]

    monkeypatch.setattr(GradientLedger, "send", send)
    return found


# --- traces ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unroll", [1, 3])
def test_a_full_trace_is_backpropagation(unroll: int) -> None:
    clock = {"unroll": unroll}
    truth = run(chain(coupling="locked", clock=clock), 18)
    assert furthest(run(chain(clock=clock, trace=1.0), 18), truth) < 1e-12
    assert furthest(run(chain(clock=clock, trace=0.5), 18), truth) > 1e-3


def test_no_trace_is_the_plain_synthetic_gradient_to_the_bit() -> None:
    plain, none = run(chain()), run(chain(trace=0.0))
    assert equal(plain, none)
    assert furthest(run(chain(trace=0.1)), plain) > 1e-4


def test_a_trace_follows_its_recursion() -> None:
    """g_k = ((1 - lambda) SG_{k+1} + lambda g_{k+1}) J_k, and each SG learns what its receiver mixed."""
    mix = 0.3
    scenario = chain("abcd", LINEAR_MAP, trace=mix)
    with Simulation(scenario, dtype=DOUBLE) as simulation:
        simulation.run(10)
        image = simulation.world.step_signals.signals["image"].flatten(1)
        label = simulation.world.step_signals.signals["label"]
        layers = {name: layers_of(simulation, name) for name in "abcd"}
        models = {n: c.predictor for n, c in simulation._system.channels.items()}
        messages: dict[str, Tensor] = {}
        signal = image
        for name in "abc":
            messages[name] = signal = F.linear(signal, *layers[name]["message"])
        context = F.one_hot(label, 10).to(DOUBLE)
        said = {
            s: models[f"{s}->{r}"].run(torch.cat([messages[s], context], 1), move=False)  # type: ignore[union-attr]
            for s, r in ("ab", "bc", "cd")
        }
        onehot = F.one_hot(label, 10)
        back: dict[str, Tensor] = {}
        own = F.linear(messages["c"], *layers["d"]["objective"]).softmax(1) - onehot
        back["c"] = own @ layers["d"]["objective"][0]
        mixed = {"c": (1 - mix) * said["c"] + mix * back["c"]}
        back["b"] = mixed["c"] @ layers["c"]["message"][0]
        mixed["b"] = (1 - mix) * said["b"] + mix * back["b"]
        own = F.linear(messages["a"], *layers["b"]["objective"]).softmax(1) - onehot
        back["a"] = mixed["b"] @ layers["b"]["message"][0] + own @ layers["b"]["objective"][0]
        mixed["a"] = (1 - mix) * said["a"] + mix * back["a"]
        simulation.step()
        injected = injected_in(simulation)
        for sender, receiver in ("ab", "bc", "cd"):
            name = f"{sender}->{receiver}"
            delta = simulation.learned.predictor_updates[name].examples[-1].delta
            assert delta is not None
            assert torch.allclose(delta, back[sender], atol=1e-13)
            assert torch.allclose(injected[name], mixed[sender], atol=1e-13)


def layers_of(simulation: Simulation, name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of an agent's heads, by what they say: `message`, `objective`."""
    found = {k: p.clone() for k, p in simulation.agents[name].parameters.items()}
    heads: dict[str, tuple[Tensor, Tensor]] = {}
    for key, weight in found.items():
        if key.endswith("weight"):
            what = "objective" if len(weight) == 10 else "message"
            heads[what] = weight, found[key.removesuffix("weight") + "bias"]
    return heads


# --- propagation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [{"kind": "linear"}, {"kind": "mlp", "hidden": [5], "norm": "none"}], ids=str
)
def test_the_loss_of_the_predictor_reaches_the_sender(kind: dict[str, Any], records: list[Record]) -> None:
    share = 0.25
    with Simulation(chain("ab", **kind, propagate=share), dtype=DOUBLE) as simulation:
        simulation.run(15)
        predictor = predictor_of(simulation, "a->b")
        frozen = {k: p.clone() for k, p in predictor.parameters.items()}
        label = simulation.world.step_signals.signals["label"]
        context = F.one_hot(label, 10).to(DOUBLE)
        simulation.step()
        record = records[-1]
        injected = injected_in(simulation)["a->b"]
        learned = {k: p.clone() for k, p in predictor.parameters.items()}
        load(predictor.parameters, frozen)
        delta = record.delta
        assert delta is not None

        def said(message: Tensor) -> Tensor:
            return value_of(predictor.run(torch.cat([message, context], 1), move=False))

        def loss(message: Tensor) -> float:
            return float((said(message) - delta).square().sum())

        expected = said(record.message) + share * slopes(loss, record.message)
        assert torch.allclose(injected, expected, atol=1e-7)
        assert (expected - said(record.message)).norm() > 1e-3
        load(predictor.parameters, learned)


@pytest.mark.parametrize("kind", ["critic", "sobolev", "sobolev_label", "local"])
def test_a_predictor_without_such_a_loss_is_refused(kind: str) -> None:
    with one_line("propagate"):
        Simulation(chain("ab", kind=kind, target="label", propagate=0.5))


def load(parameters: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.data.copy_(values[name])


def slopes(function: Callable[[Tensor], float], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar by every entry of `at`."""
    found = torch.zeros_like(at)
    for i in range(at.numel()):
        nudge = torch.zeros_like(at)
        nudge.view(-1)[i] = step
        found.view(-1)[i] = (function(at + nudge) - function(at - nudge)) / (2 * step)
    return found


# --- clipping and schedules --------------------------------------------------------------------------------


def test_clipping_shortens_what_is_long_and_nothing_else() -> None:
    with (
        Simulation(chain("ab"), dtype=DOUBLE) as free,
        Simulation(chain("ab", clip=0.11), dtype=DOUBLE) as bound,
    ):
        free.run(10)
        lengths = []
        for _ in range(5):
            bound._load_state_dict(free._state_dict())
            for each in (free, bound):
                each.step()
            whole, short = (injected_in(each)["a->b"] for each in (free, bound))
            length = whole.norm(dim=1)
            lengths.append(length)
            long = length > 0.11
            assert torch.equal(short[~long], whole[~long])
            assert torch.allclose(short[long], whole[long] * (0.11 / length[long]).unsqueeze(1))
        assert (torch.cat(lengths) > 0.11).any()
        assert (torch.cat(lengths) < 0.11).any()


def test_the_scale_moves_by_its_schedule() -> None:
    """With plain gradient descent the sender's step is proportional to the scale; the deltas are not."""
    sgd = {"kind": "sgd", "lr": 0.1}
    schedule = {"kind": "steps", "at": [0.5], "factor": 0.25}
    with Simulation(
        chain("abc", LINEAR_MAP, scale=2.0, schedule=schedule, optimiser=sgd), dtype=DOUBLE
    ) as moving:
        steady = {
            scale: Simulation(chain("abc", LINEAR_MAP, scale=scale, optimiser=sgd), dtype=DOUBLE)
            for scale in (2.0, 0.5)
        }
        for step in range(14):
            other = steady[2.0 if step < 10 else 0.5]
            other._load_state_dict(moving._state_dict())
            for each in (moving, other):
                each.step()
            assert equal(all_parameters(moving), all_parameters(other))
        for each in steady.values():
            each.close()


# --- noise -------------------------------------------------------------------------------------------------

NOISY = {"noise": 0.3, "bits": 3}


@dataclass
class Step:
    """What the coming step holds for a pair of linear agents."""

    image: Tensor
    sent: Tensor
    received: Tensor
    error: Tensor
    """Of the receiver's outputs, per sample."""
    eye: Tensor
    """The sender's weights."""
    mind: Tensor
    """The receiver's."""

    @classmethod
    def of(cls, simulation: Simulation) -> Step:
        signals = simulation.world.step_signals.signals
        image = signals["image"].flatten(1).clone()
        eye, mind = layers_of(simulation, "a")["message"], layers_of(simulation, "b")["objective"]
        sent = F.linear(image, *eye)
        received = simulation._system.channels["a->b"].ledger.link.carry(simulation.now, sent)
        error = F.linear(received, *mind).softmax(1) - F.one_hot(signals["label"], 10)
        return cls(image, sent, received, error, eye[0], mind[0])


def test_the_gradient_at_what_was_received_belongs_to_what_was_sent() -> None:
    with Simulation(chain("ab", LINEAR_MAP, link=NOISY), dtype=DOUBLE) as simulation:
        simulation.run(10)
        step = Step.of(simulation)
        simulation.step()
        assert (step.sent - step.received).norm() > 0.5
        example = simulation.learned.predictor_updates["a->b"].examples[-1]
        assert torch.allclose(example.message, step.sent, atol=1e-14)
        assert example.delta is not None
        assert torch.allclose(example.delta, step.error @ step.mind, atol=1e-14)


def test_over_a_locked_channel_noise_lets_the_gradient_straight_through() -> None:
    sgd = {"kind": "sgd", "lr": 1.0}
    scenario = chain("ab", LINEAR_MAP, link=NOISY, coupling="locked", optimiser=sgd)
    with Simulation(scenario, dtype=DOUBLE) as simulation:
        simulation.run(3)
        step = Step.of(simulation)
        simulation.step()
        mind = step.mind - step.error.T @ step.received / BATCH
        assert torch.allclose(layers_of(simulation, "b")["objective"][0], mind, atol=1e-14)
        eye = step.eye - (step.error @ step.mind).T @ step.image / BATCH
        assert torch.allclose(layers_of(simulation, "a")["message"][0], eye, atol=1e-14)


# --- stamps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stands_in", [False, True])
def test_an_aligned_receiver_works_on_the_example_of_what_it_reads(
    stands_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a link that loses: the target of the message held in each environment, or of the one stood in for."""
    seen: list[tuple[Tensor, Tensor]] = []
    genuine = ForwardPass.inputs

    def gather(ticker: ForwardPass, part: AgentTick, tape: Tape) -> Tensor:
        if part.agent == "b" and part.reads[0].value is not None:
            signals = part.step_signals.signals
            seen.append((signals["label"].clone(), torch.as_tensor(signals["_label"]).expand(BATCH).clone()))
        return genuine(ticker, part, tape)

    monkeypatch.setattr(ForwardPass, "inputs", gather)
    document = chain("ab", LINEAR_MAP, link={"delay": 2, "drop": 0.6}).model_dump(mode="json")
    document["agents"]["b"]["align"] = True
    document["channels"][0]["input"] = {"context": ["right_half"]} if stands_in else None
    with Simulation(Scenario.model_validate(document)) as simulation:
        link = simulation._system.channels["a->b"].ledger.link
        labels: list[Tensor] = []
        stamp = torch.full((BATCH,), -1)
        for step in range(16):
            labels.append(simulation.world.step_signals.signals["label"].clone())
            simulation.step()
            if step < 2:
                continue
            lost = link.lost(step - 2, BATCH, "cpu")
            assert lost is not None
            stamp = torch.where(lost & (not stands_in), stamp, step - 2)
            label, present = seen.pop()
            assert torch.equal(present, stamp >= 0)
            expected = torch.stack(labels)[stamp.clamp(min=0), torch.arange(BATCH)]
            assert torch.equal(label[present], expected[present])
