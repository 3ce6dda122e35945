"""A predictor of gradients that keeps its state in buffers and takes no optimiser step: one class, and nothing else is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from antiphon import Population, Scenario, Simulation
from antiphon.comms import Example, Predictor
from tests.contracts.builders import levels

Tensors = dict[str, Tensor]
SEEDS = (1, 2)


class RunningMean(Predictor):
    """The running mean of the returned gradients of each component."""

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Tensors, Tensors]:
        return {}, {"mean": torch.zeros(outputs)}

    def _predict(self, example: Example) -> Tensor:
        return self.buffers["mean"].unsqueeze(-2).expand_as(example.message)

    def _loss(self, example: Example) -> Tensor:
        assert example.returned is not None
        return (self._predict(example) - example.returned).square().sum((-2, -1)) / example.message.shape[-2]

    def loss_and_gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor | None]]:
        examples = [self.read(example) for example in examples]
        returned = [
            example.valid.zero_elsewhere(e) for example in examples if (e := example.returned) is not None
        ]
        newest = torch.stack([gradient.mean(-2) for gradient in returned]).mean(0)
        loss = torch.stack([self._loss(example) for example in examples]).sum(0)
        self.put_statistics({"mean": self.buffers["mean"].lerp(newest, 0.1)})
        return loss, []


def scenario() -> Scenario:
    return Scenario.model_validate(levels(channel={"gradient": {"kind": RunningMean}}, count=1))


def means(simulation: Simulation) -> dict[str, Tensor]:
    return {name: channel.synthetic_gradient.buffers["mean"] for name, channel in simulation.channels.items()}


def test_its_buffers_learn_and_are_saved(tmp_path: Path) -> None:
    with Simulation(scenario(), seed=1) as simulation:
        simulation.run(10)
        simulation.save(tmp_path / "saved")
        simulation.run(5)
    with Simulation.load(tmp_path / "saved", scenario=scenario()) as resumed:
        resumed.run(5)
        for name, mean in means(resumed).items():
            assert mean.any()
            assert torch.equal(mean, means(simulation)[name])


def test_seeds_side_by_side_have_what_each_has_alone() -> None:
    together = Population(scenario(), SEEDS, dtype=torch.float64)
    together.run(10)
    for seed, simulation in zip(SEEDS, together.simulations, strict=True):
        alone = Simulation(scenario(), seed=seed, dtype=torch.float64)
        alone.run(10)
        for name, mean in means(simulation).items():
            torch.testing.assert_close(mean, means(alone)[name])
