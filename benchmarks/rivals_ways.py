"""Ways to train a chain of stages on as many machines: which job a machine does when, and what it learns then.

    one_machine     backpropagation where all stages are: no messages, and no others to help
    locked          backpropagation; a minibatch passes all stages forward and backward before the next one begins
    1f1b            the same steps as a synchronous pipeline of M parts of a minibatch: backward first, forward whenever a part is
                    there, the optimiser once all are through (GPipe, Huang et al. 2019; PipeDream-Flush, Narayanan et al. 2021)
    data_parallel   the same steps, each machine with the whole chain and a part of the minibatch; gradients are added up directly,
                    or around a ring
    asynchronous    a pipeline without flushes: minibatches follow each other, each is differentiated with the parameters that its
                    forward pass used, which are stashed, and the update goes to those of the present (PipeDream, Narayanan et al. 2019)
    delayed         the same, but the stash is of inputs: the forward pass is repeated with present parameters when the gradient
                    is there (antiphon's coupling `delayed`)
    decoupled       a stage learns at once from a linear synthetic gradient, given the label, and the synthetic gradient from the
                    true one whenever that is returned (Jaderberg et al. 2017)
    local           a stage learns from a classifier of its own; nothing is returned (Belilovsky et al. 2019)

In favour of those that wait: batch statistics of 1f1b and data_parallel are those of the whole minibatch, and cost no message.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from rivals_chain import CLASSES, WIDTH, Chain
from rivals_machines import Costs, Machines, Network, data_parallel_step
from torch import Tensor
from torch.nn import functional as F

__all__ = ["OneWay", "Pipeline", "Synchronous", "full_pipeline"]

PARTS = (1, 2, 4, 8, 16, 32)
FLOAT = 4
KEPT = 4096
"""Messages whose gradient may still be returned; older ones are given up."""


def full_pipeline(stages: int, latency: float) -> int:
    """Return the minibatches in flight at which no stage waits: a round trip, in stage times."""
    return math.ceil(2 * (stages - 1) * latency) + stages


class _TwoWay(Machines):
    """Machines of a chain that work backward if they can, forward if they may.

    Args:
        stages: Of the chain.
        network: How long work and messages take.
        in_flight: Minibatches between their forward and their backward pass at the first stage, at most.
    """

    def __init__(self, stages: int, network: Network, in_flight: int) -> None:
        super().__init__(stages, network)
        self.stages, self.in_flight, self.open, self.fed = stages, in_flight, 0, 0
        self._messages: list[deque[tuple[int, object]]] = [deque() for _ in range(stages)]
        self._returns: list[deque[tuple[int, object]]] = [deque() for _ in range(stages)]

    def job(self, machine: int) -> Iterator[float] | None:
        if self._returns[machine]:
            return self.backward(machine, *self._returns[machine].popleft())
        if machine == 0 and self.open < self.in_flight and (content := self.next()) is not None:
            self.open, self.fed = self.open + 1, self.fed + 1
            return self.forward(0, self.fed, content)
        if self._messages[machine]:
            return self.forward(machine, *self._messages[machine].popleft())
        return None

    @abstractmethod
    def next(self) -> object | None:
        """Return what the first stage processes next; None: there is no more."""

    @abstractmethod
    def forward(self, machine: int, number: int, content: object) -> Iterator[float]:
        """Process a minibatch, the last stage backward too."""

    @abstractmethod
    def backward(self, machine: int, number: int, content: object) -> Iterator[float]:
        """Process what the next stage has returned."""

    def send(self, machine: int, number: int, content: object) -> None:
        """Send a message to a machine's next one."""
        self.post(self._arrive, self._messages, machine + 1, number, content, reliable=True)

    def give_back(self, machine: int, number: int, content: object) -> None:
        """Return a gradient to a machine's previous one; at the first, a minibatch is through."""
        if machine:
            self.post(self._arrive, self._returns, machine - 1, number, content, reliable=True)
        else:
            self.open -= 1

    def _arrive(
        self, where: list[deque[tuple[int, object]]], machine: int, number: int, content: object
    ) -> None:
        where[machine].append((number, content))
        self.wake(machine)


class _Flushed(_TwoWay):
    """One step of a synchronous pipeline: the times alone.

    Args:
        stages: Of the chain.
        network: How long work and messages take.
        costs: Of a minibatch.
        parts: Of it.
    """

    def __init__(self, stages: int, network: Network, costs: Costs, parts: int) -> None:
        super().__init__(stages, network, parts)
        self.parts, self.costs = parts, costs

    def next(self) -> object | None:
        return self.fed if self.fed < self.parts else None

    def forward(self, machine: int, number: int, content: object) -> Iterator[float]:
        yield self.costs.forward / self.parts
        if machine < self.stages - 1:
            self.send(machine, number, content)
        else:
            yield from self.backward(machine, number, content)

    def backward(self, machine: int, number: int, content: object) -> Iterator[float]:
        yield self.costs.backward / self.parts
        self.give_back(machine, number, content)


class Synchronous:
    """Backpropagation, and how long its steps take on several machines.

    Args:
        way: `one_machine`, `locked`, `1f1b`, `data_parallel` or `ring`.
        chain: What learns.
        network: How long work and messages take.
        costs: Of a stage.

    Attributes:
        now: The present time, in stage times.
        updates: Steps taken.
        parts: Of a minibatch, of `1f1b`: the number with the least time per step.
    """

    def __init__(self, way: str, chain: Chain, network: Network, costs: Costs) -> None:
        self.way, self.chain, self.network, self.costs = way, chain, network, costs
        self.now, self.updates, self.parts = 0.0, 0, 1
        self._stages = len(chain.stages)
        self._work = costs.forward + costs.backward
        if way == "1f1b":
            trial = Network(network.conditions, -1)
            means = {parts: sum(self._flushed(trial, parts) for _ in range(20)) for parts in PARTS}
            self.parts = min(means, key=lambda parts: means[parts])

    def run(self, until: float) -> None:
        """Take steps until a time is reached or passed."""
        while self.now < until:
            self.chain.step()
            self.updates += 1
            if self.way == "one_machine":
                self.now += self.network.work(self._stages * self._work)
            elif self.way in ("data_parallel", "ring"):
                ring = self.way == "ring"
                self.now += data_parallel_step(self.network, self._stages, self._work, ring=ring)
            else:
                self.now += self._flushed(self.network, self.parts)

    @property
    def bytes_sent(self) -> int:
        """Bytes that all machines have sent, without what was repeated."""
        stages = self._stages
        if self.way == "one_machine":
            return 0
        if self.way not in ("data_parallel", "ring"):
            return self.updates * 2 * (stages - 1) * self.chain.rows * WIDTH * FLOAT
        size = FLOAT * sum(tensor.numel() for stage in self.chain.stages for tensor in stage.own.tensors)
        return self.updates * (stages - 1) * size * (2 if self.way == "ring" else stages)

    @property
    def working(self) -> float:
        """The share of their time that machines work."""
        return self.updates * self._work / max(self.now, 1e-9)

    def _flushed(self, network: Network, parts: int) -> float:
        step = _Flushed(self._stages, network, self.costs, parts)
        step.run(math.inf)
        return step.now


class _Stash(NamedTuple):
    """What a stage keeps of a minibatch until its gradient is there.

    Attributes:
        x: Its input.
        message: Its output, with the graph; None if it will be made again.
        tensors: The parameters that made it.
        updates: The stage's updates until then.
    """

    x: Tensor
    message: Tensor | None
    tensors: Sequence[Tensor]
    updates: int


class Pipeline(_TwoWay):
    """A pipeline without flushes.

    Args:
        chain: What learns.
        network: How long work and messages take.
        costs: Of a stage.
        in_flight: Minibatches, at most; with one this is backpropagation.
        replay: Whether the forward pass is repeated with present parameters; else the parameters are stashed.

    Attributes:
        staleness: Updates of a stage between a forward pass and what is learned from it: count and sum.
    """

    def __init__(
        self, chain: Chain, network: Network, costs: Costs, *, in_flight: int, replay: bool = False
    ) -> None:
        super().__init__(len(chain.stages), network, in_flight)
        self.chain, self.costs, self.replay = chain, costs, replay
        self.staleness = [0, 0]
        self._kept: list[dict[int, _Stash]] = [{} for _ in chain.stages]

    @property
    def bytes_sent(self) -> int:
        return self.sent * self.chain.rows * WIDTH * FLOAT

    @property
    def updates(self) -> int:
        return self.chain.stages[0].own.updates

    def next(self) -> object:
        return self.chain.batch()

    def forward(self, machine: int, number: int, content: object) -> Iterator[float]:
        stage, (x, labels) = self.chain.stages[machine], content
        x.requires_grad_(machine > 0)
        message = stage.forward(x)
        loss = stage.loss(message, labels) if stage.last else None
        yield self.costs.forward
        kept = None if self.replay else message
        self._kept[machine][number] = _Stash(x, kept, stage.own.tensors, stage.own.updates)
        if loss is None:
            self.send(machine, number, (message.detach(), labels))
        else:
            yield from self._learn(machine, number, loss, None)

    def backward(self, machine: int, number: int, content: object) -> Iterator[float]:
        stage, stash = self.chain.stages[machine], self._kept[machine][number]
        message = stash.message
        if message is None:
            message = stage.forward(stash.x, statistics=False)
            self._kept[machine][number] = stash._replace(tensors=stage.own.tensors)
            yield self.costs.forward
        yield from self._learn(machine, number, message, content)

    def _learn(self, machine: int, number: int, output: Tensor, delta: object) -> Iterator[float]:
        own, stash = self.chain.stages[machine].own, self._kept[machine].pop(number)
        inputs = [*stash.tensors, *([stash.x] if machine else [])]
        gradients = torch.autograd.grad(output, inputs, delta)
        yield self.costs.backward
        self.staleness[0] += 1
        self.staleness[1] += own.updates - stash.updates
        own.update(gradients[: len(stash.tensors)])
        self.give_back(machine, number, gradients[-1] if machine else None)


class OneWay(Machines):
    """Stages that learn as soon as they have a message: `decoupled` or `local`.

    Args:
        chain: What learns.
        network: How long work and messages take; what is lost is lost.
        costs: Of a stage.
        local: Whether the signal is that of a local classifier; else a synthetic gradient.
        queue: Messages that wait at a stage, at most: the oldest is dropped for a new one, so that with 1 the newest wins.
        ahead: Steps that a stage may be ahead of the newest message whose gradient is back; then it waits. None: for ever.
        together: Whether gradients that have been returned since the last step make one update of the synthetic gradient, on
            their mean loss; else each makes its own.

    Attributes:
        dropped: Messages dropped from queues.
        staleness: Updates of a stage between a message and what its synthetic gradient learns from it: count and sum.
    """

    def __init__(
        self,
        chain: Chain,
        network: Network,
        costs: Costs,
        *,
        local: bool,
        queue: int | None = 1,
        ahead: int | None = None,
        together: bool = False,
    ) -> None:
        super().__init__(len(chain.stages), network)
        if ahead is not None and network.conditions.loss:
            raise ValueError("a stage that waits for a gradient that is lost waits for ever: leave ahead out")
        self.chain, self.costs, self.local, self.ahead = chain, costs, local, ahead
        self.dropped, self.staleness = 0, [0, 0]
        self._queue, self._together = queue, together
        self._fed = 0
        self._answered = [0 for _ in chain.stages]
        self._messages: list[deque[tuple[int, Tensor, Tensor]]] = [deque() for _ in chain.stages]
        self._returns: list[list[tuple[int, Tensor]]] = [[] for _ in chain.stages]
        self._kept: list[dict[int, tuple[Tensor, int]]] = [{} for _ in chain.stages]

    @property
    def bytes_sent(self) -> int:
        return self.sent * self.chain.rows * WIDTH * FLOAT

    @property
    def updates(self) -> int:
        return self.chain.stages[0].own.updates

    def job(self, machine: int) -> Iterator[float] | None:
        stage = self.chain.stages[machine]
        waits = not (stage.last or self.local or self.ahead is None or self._returns[machine])
        if waits and stage.own.updates - self._answered[machine] >= self.ahead:
            return None
        if machine == 0:
            self._fed += 1
            return self._step(0, self._fed, *self.chain.batch())
        if self._messages[machine]:
            return self._step(machine, *self._messages[machine].popleft())
        return None

    def _step(self, machine: int, number: int, x: Tensor, labels: Tensor) -> Iterator[float]:
        stage = self.chain.stages[machine]
        x.requires_grad_(machine > 0 and not self.local)
        message = stage.forward(x)
        yield self.costs.forward
        if not stage.last:
            self.post(self._arrive, machine + 1, number, message.detach(), labels, reliable=False)
            yield self.costs.predict
        inputs = [*stage.own.tensors, *([x] if x.requires_grad else [])]
        if stage.last:
            gradients = torch.autograd.grad(stage.loss(message, labels), inputs)
        elif self.local:
            loss = F.cross_entropy(F.linear(message, *stage.classifier.tensors), labels)
            gradients = torch.autograd.grad(loss, [*inputs, *stage.classifier.tensors])
        else:
            gradients = torch.autograd.grad(message, inputs, self._predict(machine, number, message, labels))
        yield self.costs.backward
        stage.own.update(gradients[: len(stage.own.tensors)])
        if self.local and not stage.last:
            stage.classifier.update(gradients[len(inputs) :])
        if x.requires_grad:
            delta = gradients[-1] * len(x)
            self.post(self._return, machine - 1, number, delta, reliable=False)
        if self._returns[machine]:
            yield from self._learn(machine)

    @torch.no_grad()
    def _predict(self, machine: int, number: int, message: Tensor, labels: Tensor) -> Tensor:
        """Return a synthetic gradient [batch, width] of the mean loss; what it was made from is kept."""
        stage, kept = self.chain.stages[machine], self._kept[machine]
        assert stage.predictor is not None
        context = torch.cat([message, F.one_hot(labels, CLASSES)], 1)
        kept[number] = context, stage.own.updates
        if len(kept) > KEPT:
            del kept[next(iter(kept))]
        return F.linear(context, *stage.predictor.tensors) / len(message)

    def _learn(self, machine: int) -> Iterator[float]:
        """Update the synthetic gradient by what has been returned since the last step."""
        stage, kept = self.chain.stages[machine], self._kept[machine]
        assert stage.predictor is not None
        examples = []
        for number, delta in self._returns[machine]:
            if number in kept:
                context, updates = kept.pop(number)
                self._answered[machine] = max(self._answered[machine], updates)
                self.staleness[0] += 1
                self.staleness[1] += stage.own.updates - 1 - updates
                examples.append((context, delta))
        self._returns[machine].clear()
        for batch in [examples] if self._together and examples else [[example] for example in examples]:
            losses = [
                (F.linear(context, *stage.predictor.tensors) - delta).square().sum(1).mean()
                for context, delta in batch
            ]
            gradients = torch.autograd.grad(torch.stack(losses).mean(), stage.predictor.tensors)
            yield self.costs.learn
            stage.predictor.update(gradients)

    def _arrive(self, machine: int, number: int, message: Tensor, labels: Tensor) -> None:
        waiting = self._messages[machine]
        waiting.append((number, message, labels))
        if self._queue is not None and len(waiting) > self._queue:
            waiting.popleft()
            self.dropped += 1
        self.wake(machine)

    def _return(self, machine: int, number: int, delta: Tensor) -> None:
        self._returns[machine].append((number, delta))
        self.wake(machine)
