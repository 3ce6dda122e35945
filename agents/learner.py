"""What an agent learns and with what: objectives (losses per sample of its output and a target), and learners: parameters,
running statistics and optimiser.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from antiphon.agents.network import Network, Tensors
from antiphon.comms.credit import constant
from antiphon.nets.layers import binary_cross_entropy, cross_entropy, squared_error
from antiphon.nets.memory import give_back
from antiphon.nets.optimisers import Optimiser, Rate, StackedOptimiser, step_all

__all__ = [
    "OBJECTIVES",
    "Classification",
    "Coding",
    "Learner",
    "Objective",
    "Regression",
    "StackedLearner",
]


class Objective(ABC):
    """Loss per sample, and its metric for reports."""

    metric: str
    """Name of what `score` returns: higher is better for `accuracy`, lower for `error` and `bits`."""
    scores_loss: bool = False
    """Whether the metric is the loss itself."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss per sample, [B], of output [B, size]."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the metric per sample, [B]."""

    @staticmethod
    @abstractmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        """Return the output size that a target of this shape needs, or None where the target does not fit."""


@final
class Classification(Objective):
    """Cross-entropy against an integer target."""

    metric = "accuracy"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) == target).to(output.dtype)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return classes if shape == () else None


@final
class Regression(Objective):
    """Squared error against a float target, averaged over its components."""

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is not None else int(torch.Size(shape).numel())


@final
class Coding(Objective):
    """Code length of a target under the output as its model; the metric is in bits.

    An integer target is one symbol: softmax cross-entropy over the classes. A float target of zeros and ones is
    a vector of independent bits: sigmoid cross-entropies, whose sum is the loss (in nats) and whose mean per
    component is the metric (the form of the copy tasks, Graves et al. 2014, "Neural Turing Machines").
    """

    metric = "bits"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return binary_cross_entropy(output, target)
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        components = output.shape[1] if target.is_floating_point() else 1
        return self.loss(output, target) / (components * math.log(2))

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        if classes is not None:
            return classes if shape == () else None
        return int(torch.Size(shape).numel()) if len(shape) < 2 else None


OBJECTIVES: dict[str, type[Objective]] = {
    "classification": Classification,
    "regression": Regression,
    "coding": Coding,
}


class Learner:
    """Parameters, buffers and optimiser of one network. Tied agents share one learner.

    Args:
        optimiser: Kind and settings, as `Optimiser` takes them.
        frozen: Whether parameters are constant; gradients still pass through.
        dtype: Of parameters and float buffers.
    """

    def __init__(
        self,
        network: Network,
        generator: torch.Generator,
        *,
        optimiser: dict[str, object],
        rate: Rate,
        frozen: bool,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.network = network
        self.rate = rate
        self.frozen = frozen
        self.updates = 0
        self.parameters: Tensors = {
            name: p.to(device=device, dtype=dtype).requires_grad_(not frozen)
            for name, p in network.parameters(generator).items()
        }
        self.buffers: Tensors = {
            name: b.to(device=device, dtype=dtype if b.is_floating_point() else b.dtype)
            for name, b in network.buffers().items()
        }
        self.trainable: list[Tensor] = [] if frozen else list(self.parameters.values())
        self.optimiser = Optimiser(parameters=self.trainable, **optimiser)  # type: ignore[arg-type]

    def planned(
        self, gradients: Sequence[Tensor | None], now: int
    ) -> tuple[Optimiser, Sequence[Tensor], float]:
        """Return the optimiser step for `gradients`, and count it as taken.

        A parameter without a gradient (None) gets zeros, as in torch's sum.
        """
        full = [
            torch.zeros_like(p) if g is None else g for p, g in zip(self.trainable, gradients, strict=True)
        ]
        self.updates += 1
        return self.optimiser, full, self.rate(now)

    def step(self, gradients: Sequence[Tensor | None], now: int) -> None:
        """Take one optimiser step."""
        step_all([self.planned(gradients, now)])

    def state_dict(self) -> dict[str, object]:
        """Return the state for a fork or checkpoint, without copying."""
        return {
            "parameters": dict(self.parameters),
            "buffers": dict(self.buffers),
            "optimiser": {name: list(tensors) for name, tensors in self.optimiser.state.items()},
            "updates": self.updates,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Load a copy of the state from `state_dict`."""
        parameters, buffers, optimiser = state["parameters"], state["buffers"], state["optimiser"]
        assert isinstance(parameters, dict)
        assert isinstance(buffers, dict)
        assert isinstance(optimiser, dict)
        for name, p in self.parameters.items():
            p.copy_(parameters[name])
        for name, b in self.buffers.items():
            if buffers[name] is not b:  # its own state is loaded where a reference shares the learner
                self.buffers[name] = buffers[name].to(b).clone()
        self.optimiser.allocate()
        for name, tensors in self.optimiser.state.items():
            for own, saved in zip(tensors, optimiser[name], strict=True):
                own.copy_(saved)
        updates = state["updates"]
        assert isinstance(updates, int)
        self.updates = updates

    def counts(self) -> list[int]:
        """Return the optimiser steps taken, as a list of one."""
        return [self.updates]


class StackedLearner:
    """The parameters of N agents of one kind, stacked [N, …]; the agents' own become views of them.

    It has the interface of `Learner`; its network maps rows (member, environment), [N * B, …].

    Args:
        batch: B.
    """

    def __init__(self, learners: Sequence[Learner], batch: int) -> None:
        first = learners[0]
        self.learners = list(learners)
        self.rate, self.frozen = first.rate, first.frozen
        self.parameters: Tensors = {}
        each = [list(learner.parameters.values()) for learner in learners]
        for name, *own in zip(first.parameters, *each, strict=True):  # by place: ports have their own names
            stack = torch.stack([constant(p) for p in own])
            for p, view in zip(own, stack.unbind(), strict=True):
                p.data = view
            self.parameters[name] = stack.requires_grad_(not first.frozen)
        give_back(sum(stack.numel() * stack.element_size() for stack in self.parameters.values()))
        self.trainable = [] if first.frozen else list(self.parameters.values())
        self.optimiser = StackedOptimiser.from_members(
            [learner.optimiser for learner in learners], self.trainable
        )
        self.network = _RowNetwork(first.network, len(learners), batch)
        self.taken = torch.zeros(len(learners), dtype=torch.int64)
        """[N]: optimiser steps taken since the agents' own counts were written."""
        self.buffers: Tensors = {}
        self.read_members()

    def step(
        self, gradients: Sequence[Tensor], now: int, members: Tensor | None, *, skip: Tensor | None = None
    ) -> None:
        """Take one optimiser step of `members`, [N] bool or None for all.

        Args:
            gradients: [N, …] each, in the order of `trainable`.
            now: The step, for the learning rate.
            skip: [] float, on the device; if it is not 0, no parameter is updated.
        """
        self.optimiser.step(gradients, self.rate(now), members, skip=skip)
        self.taken += 1 if members is None else members.long()

    def read_members(self) -> None:
        """Stack the running statistics and counts of the agents again, after a state was loaded into them."""
        each = [list(learner.buffers.values()) for learner in self.learners]
        names = self.learners[0].buffers
        self.buffers = {name: torch.stack(own) for name, *own in zip(names, *each, strict=True)}
        self.taken.zero_()
        self.optimiser.refresh()

    def write_members(self) -> None:
        """Write running statistics and counts of updates to the agents; their parameters are views."""
        split = [self.buffers[name].unbind() for name in self.learners[0].buffers]
        for n, (learner, taken) in enumerate(zip(self.learners, self.taken.tolist(), strict=True)):
            learner.buffers = {name: own[n] for name, own in zip(learner.buffers, split, strict=True)}
            learner.updates += taken
        self.taken.zero_()

    def restore_buffers(self, members: Tensor, buffers: Tensors) -> None:
        """Set the running statistics of `members`, [N] bool, back to `buffers`."""
        for name, stack in self.buffers.items():
            mask = members.view(-1, *[1] * (stack.dim() - 1))
            self.buffers[name] = torch.where(mask, buffers[name], stack)

    def counts(self) -> list[int]:
        """Return the optimiser steps that each agent has taken."""
        return [learner.updates + n for learner, n in zip(self.learners, self.taken.tolist(), strict=True)]


class _RowNetwork:
    """A network evaluated with stacked parameters on rows, [N * B, …]."""

    pure = True

    def __init__(self, network: Network, count: int, batch: int) -> None:
        self.network = network
        self.count, self.batch = count, batch
        self.input_shape, self.heads = network.input_shape, network.heads
        self.state_size = network.state_size

    def __call__(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        seed: int = 0,
        transports: Sequence[Any] = (),
        state: Tensor | None = None,
    ) -> tuple[Tensors, Tensors]:
        del seed, transports  # of single agents only
        rows = x.view(self.count, self.batch, *x.shape[1:])
        before = None if state is None else state.view(self.count, self.batch, -1)
        ports, after = self.network(parameters, buffers, rows, training=training, state=before)
        return {name: port.flatten(0, 1) for name, port in ports.items()}, after
