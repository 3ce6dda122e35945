"""Agents and predictors are functions of (parameters, inputs, state) with an optional leading axis.

Three equal agents in a chain tick at different periods. A twin computes them stacked, [3, B, ...], with the same
functions and one backward pass, and lets only those learn that are due; it agrees with the reference backend.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.agents.feedforward import Mlp
from antiphon.agents.network import HIDDEN, OBJECTIVE, Head
from antiphon.comms.backward_requests import Injection, backward
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.nets.layers import linear
from antiphon.scenarios import Scenario

DOUBLE = torch.float64
AGENTS, CHANNELS = ("a", "b", "c"), ("a->b", "b->c")
PERIODS = (1, 2, 3)
WIDTH, CLASSES, BATCH = 12, 4, 16
RATE = 0.002
"""Small: Adam makes steps of rounding errors where batch norm leaves a bias without a gradient."""
SCALE, DISCOUNT = 0.5, 0.9


def simulation() -> Simulation:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, WIDTH, generator=g, dtype=DOUBLE)
    label = (x @ torch.randn(WIDTH, CLASSES, generator=g, dtype=DOUBLE)).argmax(1)
    agents: dict[str, Any] = {
        name: {
            "network": {"kind": "mlp", "hidden": [WIDTH], "norm": "batch"},
            "objective": {"kind": "classification", "target": "label"},
            "clock": {"period": period},
        }
        for name, period in zip(AGENTS, PERIODS, strict=True)
    }
    agents["a"]["observes"] = ["x"]
    gradient = {"kind": "linear", "context": ["label"], "scale": SCALE, "discount": DISCOUNT}
    scenario = {
        "scenario": "twin",
        "env": from_tensors(x=x, label=label, training_only=["label"]),
        "agents": agents,
        "channels": [
            {"from": s, "to": r, "link": {"delay": 1}, "gradient": gradient}
            for s, r in (("a", "b"), ("b", "c"))
        ],
        "training": {"batch": BATCH, "steps": 100, "optimiser": {"kind": "adam", "lr": RATE}},
    }
    return Simulation(Scenario.model_validate(scenario), dtype=DOUBLE)


class MaskedAdam:
    """Adam on stacked tensors [N, ...]; a row moves, and its count with it, only where the mask says so."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.mean = {k: torch.zeros_like(v) for k, v in tensors.items()}
        self.square = {k: torch.zeros_like(v) for k, v in tensors.items()}
        self.steps = torch.zeros(len(next(iter(tensors.values()))), dtype=DOUBLE)

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], mask: Tensor) -> None:
        self.steps += mask
        for key, tensor in self.tensors.items():
            on, count = (t.view(-1, *([1] * (tensor.dim() - 1))) for t in (mask, self.steps))
            g = gradients[key]
            self.mean[key] = torch.where(on, 0.9 * self.mean[key] + 0.1 * g, self.mean[key])
            self.square[key] = torch.where(on, 0.999 * self.square[key] + 0.001 * g * g, self.square[key])
            mean = self.mean[key] / (1 - 0.9**count)
            square = self.square[key] / (1 - 0.999**count)
            tensor -= torch.where(on, RATE * mean / (square.sqrt() + 1e-8), 0.0)


class Twin:
    """All agents at once, and all predictors at once; the bookkeeping of messages is written out per channel."""

    def __init__(self, of: Simulation) -> None:
        learners = [of._system.agents[name].learner for name in AGENTS]
        predictors = [of._system.channels[name].predictor for name in CHANNELS]
        self.network = Mlp((WIDTH,), (WIDTH,), (Head(OBJECTIVE, (CLASSES,)),))
        self.parameters = {
            k: torch.stack([learner.parameters[k].detach() for learner in learners]).requires_grad_()
            for k in learners[0].parameters
        }
        self.buffers = {
            k: torch.stack([learner.buffers[k] for learner in learners]) for k in learners[0].buffers
        }
        self.predictors = {
            k: torch.stack([p.parameters[k].detach() for p in predictors if p is not None])
            for k in ("last.weight", "last.bias")
        }
        self.adam, self.predictor_trainer = MaskedAdam(self.parameters), MaskedAdam(self.predictors)
        self.sent: list[dict[int, Tensor]] = [{}, {}]
        """Per channel: what its predictor reads, [B, message and context], by stamp."""
        self.coming: list[tuple[int, int, int, Tensor]] = []
        """Deltas on their way: arrival, channel, stamp, delta."""

    def read(self, channel: int, step: int) -> int | None:
        """Stamp that the receiver's tick at `step` finds."""
        period = PERIODS[channel]
        return None if step < 1 else (step - 1) // period * period

    def will_be_read(self, channel: int, stamp: int) -> bool:
        arrival, period = stamp + 1, PERIODS[channel + 1]
        return -(-arrival // period) * period < arrival + PERIODS[channel]

    def step(self, step: int, x: Tensor, label: Tensor) -> None:
        due = torch.tensor([step % period == 0 for period in PERIODS])
        context = F.one_hot(label, CLASSES).to(DOUBLE)
        stamps = [self.read(channel, step) for channel in range(2)]
        silence = torch.zeros(BATCH, WIDTH + CLASSES, dtype=DOUBLE)
        told = [silence if s is None else self.sent[c][s] for c, s in enumerate(stamps)]
        leaf = torch.stack([x, *(message[:, :WIDTH] for message in told)]).requires_grad_()
        ports, moved = self.network(self.parameters, self.buffers, leaf, training=True)
        losses = F.cross_entropy(ports[OBJECTIVE].flatten(0, 1), label.repeat(3), reduction="none").view(
            3, BATCH
        )
        read = torch.stack([torch.cat([ports[HIDDEN][c].detach(), context], 1) for c in range(2)])
        said = linear(read, self.predictors["last.weight"], self.predictors["last.bias"])
        heard = torch.tensor([self.will_be_read(c, step) for c in range(2)])
        said = torch.cat(
            [torch.where(heard.view(2, 1, 1), said, 0.0), torch.zeros(1, BATCH, WIDTH, dtype=DOUBLE)]
        )
        own, deltas = backward(
            losses.sum() / BATCH,
            [Injection(ports[HIDDEN], said, SCALE, DISCOUNT)],
            list(self.parameters.values()),
            [leaf],
            BATCH,
        )
        assert deltas[0] is not None
        for channel, stamp in enumerate(stamps):
            if due[channel]:
                self.sent[channel][step] = read[channel]
            if due[channel + 1] and stamp is not None:
                self.coming.append((step + 1, channel, stamp, deltas[0][channel + 1]))
        gradients = {k: g for k, g in zip(self.parameters, own, strict=True) if g is not None}
        self.adam.step(gradients, due)
        on = due.view(3, 1)
        self.buffers = {k: torch.where(on, moved[k], b) for k, b in self.buffers.items()}
        self.teach(step)

    def teach(self, step: int) -> None:
        """Let the predictors learn whose deltas have come back at this step."""
        here = [(c, s, delta) for arrival, c, s, delta in self.coming if arrival == step]
        self.coming = [entry for entry in self.coming if entry[0] != step]
        x = torch.zeros(2, BATCH, WIDTH + CLASSES, dtype=DOUBLE)
        target = torch.zeros(2, BATCH, WIDTH, dtype=DOUBLE)
        mask = torch.zeros(2, dtype=torch.bool)
        for channel, stamp, delta in here:
            x[channel], target[channel], mask[channel] = self.sent[channel][stamp], delta, True
        if not here:
            return
        error = linear(x, self.predictors["last.weight"], self.predictors["last.bias"]) - target
        error = error * (2.0 / BATCH)
        self.predictor_trainer.step(
            {"last.weight": error.transpose(1, 2) @ x, "last.bias": error.sum(1)}, mask
        )


def test_a_stacked_twin_agrees_with_the_reference() -> None:
    reference = simulation()
    twin = Twin(reference)
    before = {k: v.detach().clone() for k, v in {**twin.parameters, **twin.predictors}.items()}
    for step in range(30):
        signals = reference.world.step_signals.signals
        twin.step(step, signals["x"].to(DOUBLE), signals["label"])
        reference.step()
    assert twin.adam.steps.tolist() == [30, 15, 10]
    assert twin.predictor_trainer.steps.tolist() == [14, 9]
    for key, start in before.items():
        if key != "0.bias":
            moved = ({**twin.parameters, **twin.predictors}[key] - start).abs().flatten(1).amax(1)
            assert (moved > 0.005).all(), key
    for i, name in enumerate(AGENTS):
        learner = reference._system.agents[name].learner
        for key, p in learner.parameters.items():
            # Batch norm leaves this bias without a gradient: Adam makes steps of what rounding leaves of it.
            tolerance = 1e-6 if key == "0.bias" else 1e-9
            torch.testing.assert_close(twin.parameters[key][i].detach(), p.detach(), atol=tolerance, rtol=0)
        for key, b in learner.buffers.items():
            tolerance = 1e-6 if key == "0.norm.mean" else 1e-9
            torch.testing.assert_close(twin.buffers[key][i], b, atol=tolerance, rtol=0)
    for i, name in enumerate(CHANNELS):
        predictor = reference._system.channels[name].predictor
        assert predictor is not None
        for key, p in predictor.parameters.items():
            torch.testing.assert_close(twin.predictors[key][i], p.detach(), atol=1e-9, rtol=0)
