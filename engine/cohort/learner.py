"""The numbers of a cohort: stacked, and computed a span of members at a time.

Shapes: N agents of a cohort, B environments; rows N * B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE, Network, Tensors
from antiphon.comms.cut import as_leaf, constant
from antiphon.engine.core.memory import give_back
from antiphon.nets.stacked_optimiser import StackedOptimiser

__all__ = ["Piece", "Pieces", "Span", "StackedLearner"]


@dataclass(frozen=True, eq=False)
class Span:
    """Neighbouring members that are computed at once.

    Attributes:
        first: The first of them.
        last: The one after the last.
        parameters: Theirs, [last - first, …]: views of the stacks.
        trainable: Those that learn.
        optimiser: Moves them.
    """

    first: int
    last: int
    parameters: Tensors
    trainable: list[Tensor]
    optimiser: StackedOptimiser


@dataclass(frozen=True, eq=False)
class Piece:
    """A span's share in an evaluation: its graph begins at the input and ends at the ports."""

    x: Tensor
    """[members, B, …]: a leaf, where the gradient of the input is wanted."""
    ports: Tensors


@dataclass(frozen=True, eq=False)
class Pieces:
    """An evaluation, span by span."""

    x: Tensor
    """[N * B, …], with the graph of what was read."""
    each: list[Piece]


class StackedLearner:
    """The numbers of all agents of a cohort, stacked [N, …]; the agents' own become views of them.

    It stands where an agent has its `Learner`, and its network takes and gives rows.

    Args:
        learners: The agents'.
        batch: B.
        width: Members of a span; all, unless there are many.
    """

    def __init__(self, learners: Sequence[Learner], batch: int, width: int) -> None:
        first = learners[0]
        self.learners = list(learners)
        self.rate, self.frozen = first.rate, first.frozen
        self.parameters: Tensors = {}
        each = [list(learner.parameters.values()) for learner in learners]
        for name, *own in zip(first.parameters, *each, strict=True):  # by place: ports have their own names
            stack = torch.stack([constant(p) for p in own])
            for p, view in zip(own, stack.unbind(), strict=True):
                p.data = view
            self.parameters[name] = stack
        give_back(sum(stack.numel() * stack.element_size() for stack in self.parameters.values()))
        starts = range(0, len(learners), width)
        self.spans = [self._span(start, min(start + width, len(learners))) for start in starts]
        if len(self.spans) == 1:
            self.parameters = self.spans[0].parameters
        self.trainable = [] if first.frozen else list(self.parameters.values())
        self.network = _Rows(first.network, len(learners), batch, self.spans)
        self.taken = torch.zeros(len(learners), dtype=torch.int64)
        """[N]: steps taken since the agents were last told."""
        self.buffers: Tensors = {}
        self.refresh()

    def _span(self, first: int, last: int) -> Span:
        parameters = {name: constant(stack[first:last]) for name, stack in self.parameters.items()}
        trainable = [] if self.frozen else [p.requires_grad_() for p in parameters.values()]
        members = [learner.optimiser for learner in self.learners[first:last]]
        return Span(first, last, parameters, trainable, StackedOptimiser.from_members(members, trainable))

    def step(
        self, gradients: Sequence[Tensor], now: int, members: Tensor | None, *, skip: Tensor | None = None
    ) -> None:
        """Let `members`, [N] bool or None for all, take a step.

        Args:
            gradients: [N, …] each, in the order of `trainable`.
            now: The step, for the rate.
            members: Who takes it.
            skip: [] float: where it is not 0 when the device comes to it, nobody moves.
        """
        for span in self.spans:
            place = slice(span.first, span.last)
            self.step_span(span, [g[place] for g in gradients], now, members, skip=skip)

    def step_span(
        self,
        span: Span,
        gradients: Sequence[Tensor],
        now: int,
        members: Tensor | None,
        *,
        skip: Tensor | None = None,
    ) -> None:
        """Let the members of one span take their step; `gradients` are theirs alone, `members` are of all."""
        own = None if members is None else members[span.first : span.last]
        span.optimiser.step(gradients, self.rate(now), own, skip=skip)
        self.taken[span.first : span.last] += 1 if own is None else own.long()

    def refresh(self) -> None:
        """Take over what the agents' own numbers have become: running statistics and counts of steps."""
        each = [list(learner.buffers.values()) for learner in self.learners]
        names = self.learners[0].buffers
        self.buffers = {name: torch.stack(own) for name, *own in zip(names, *each, strict=True)}
        self.taken.zero_()
        for span in self.spans:
            span.optimiser.refresh()

    def put_back(self, members: Tensor, buffers: Tensors) -> None:
        """Give `members` back the running statistics they had."""
        for name, stack in self.buffers.items():
            who = members.view(-1, *[1] * (stack.dim() - 1))
            self.buffers[name] = torch.where(who, buffers[name], stack)

    def counts(self) -> list[int]:
        """Return the optimiser steps that each agent has taken."""
        return [learner.updates + n for learner, n in zip(self.learners, self.taken.tolist(), strict=True)]

    def write_back(self) -> None:
        """Give the agents their running statistics and counts of updates; all else they see already."""
        split = [self.buffers[name].unbind() for name in self.learners[0].buffers]
        for n, (learner, taken) in enumerate(zip(self.learners, self.taken.tolist(), strict=True)):
            learner.buffers = {name: own[n] for name, own in zip(learner.buffers, split, strict=True)}
            learner.updates += taken
        self.taken.zero_()


class _Rows:
    """A network that is evaluated with stacked numbers on rows.

    Attributes:
        network: What it is for one agent.
        wanted: The ports somebody reads.
        pieces: The newest evaluation, where there are several spans.
    """

    pure = True

    def __init__(self, network: Network, count: int, batch: int, spans: Sequence[Span]) -> None:
        self.network = network
        self.count, self.batch, self.spans = count, batch, spans
        self.input_shape, self.heads = network.input_shape, network.heads
        self.state_size = network.state_size
        self.wanted: tuple[str, ...] = ()
        self.pieces: Pieces | None = None

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
        del seed, transports  # of agents that stand alone
        rows = x.view(self.count, self.batch, *x.shape[1:])
        if len(self.spans) > 1:
            return self._by_span(buffers, x, rows, training)
        before = None if state is None else state.view(self.count, self.batch, -1)
        ports, after = self.network(parameters, buffers, rows, training=training, state=before)
        return {name: port.flatten(0, 1) for name, port in ports.items()}, after

    def _by_span(self, buffers: Tensors, x: Tensor, rows: Tensor, training: bool) -> tuple[Tensors, Tensors]:
        pieces, moved = [], []
        for span in self.spans:
            place = slice(span.first, span.last)
            own = as_leaf(rows[place]) if x.requires_grad else rows[place]
            held = {name: stack[place] for name, stack in buffers.items()}
            ports, after = self.network(span.parameters, held, own, training=training)
            pieces.append(Piece(own, {name: ports[name] for name in self.wanted}))
            moved.append(after)
        self.pieces = Pieces(x, pieces)
        together = {
            name: torch.cat([constant(piece.ports[name]) for piece in pieces]).flatten(0, 1)
            for name in self.wanted
        }
        if OBJECTIVE in together:  # where the gradient of the loss begins
            together[OBJECTIVE].requires_grad_()
        return together, {name: torch.cat([after[name] for after in moved]) for name in moved[0]}
