"""Machines in virtual time, one for each stage of a chain: jobs that take work, messages that take their time, one heap of events.

The unit of time is a *stage time*: what a machine needs for a stage's forward and backward pass with its optimiser on one
minibatch, at its usual speed.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Conditions", "Costs", "Machines", "Network", "data_parallel_step"]


@dataclass(frozen=True)
class Costs:
    """Work of a stage on a minibatch, in stage times.

    Attributes:
        forward: Its forward pass.
        backward: Its backward pass, and its optimiser's step.
        predict: A synthetic gradient, or the forward and backward pass of a local classifier.
        learn: One update of the synthetic gradient from what has been returned.
    """

    forward: float = 1 / 3
    backward: float = 2 / 3
    predict: float = 0.05
    learn: float = 0.15


@dataclass(frozen=True)
class Conditions:
    """What the machines and the network between them are like.

    Attributes:
        latency: Of every message, in stage times; bandwidth is unlimited.
        jitter: Spread of work and latency: each is multiplied by exp(jitter z - jitter² / 2), z normal, so that means remain.
        pauses: How often a machine pauses, per stage time of work (Poisson).
        pause: Length of each pause, in stage times.
        loss: Probability that a message is lost.
        slow: Factor on the work of one machine, that in the middle.
    """

    latency: float = 1.0
    jitter: float = 0.0
    pauses: float = 0.0
    pause: float = 9.0
    loss: float = 0.0
    slow: float = 1.0


class Network:
    """Sampled durations of work and of messages under some conditions.

    Args:
        conditions: Those of all machines and links.
        seed: Equal seeds, and equal calls in the same order, give equal durations.
    """

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.conditions = conditions
        self._random = random.Random(seed)

    def work(self, amount: float, *, slow: bool = False) -> float:
        """Return how long some work takes, on a usual or on the slow machine."""
        amount *= self.conditions.slow if slow else 1.0
        taken, rate = amount * self._factor(), self.conditions.pauses
        if rate:
            until = self._random.expovariate(rate)
            while until < amount:
                taken += self.conditions.pause
                until += self._random.expovariate(rate)
        return taken

    def transit(self) -> float | None:
        """Return how long a message is under way; None: it is lost."""
        if self.conditions.loss and self._random.random() < self.conditions.loss:
            return None
        return self.conditions.latency * self._factor()

    def reliable(self) -> float:
        """Return the same of a message that is repeated a round trip after each loss."""
        waited = 0.0
        while (under_way := self.transit()) is None:
            waited += 2 * self.conditions.latency
        return waited + under_way

    def _factor(self) -> float:
        spread = self.conditions.jitter
        return math.exp(self._random.gauss(0.0, spread) - spread * spread / 2) if spread else 1.0


class Machines:
    """Machines that each do one job at a time, and the events between them.

    A job is an iterator that yields amounts of work: what stands before a `yield` is done when that work begins, what stands
    behind it when it ends. A subclass says which job a machine takes up next (`job`).

    Args:
        count: Of machines.
        network: How long work and messages take.

    Attributes:
        now: The present time, in stage times.
        worked: Work done by each machine, without its pauses.
        sent: Messages sent.
    """

    def __init__(self, count: int, network: Network) -> None:
        self.network = network
        self.now = 0.0
        self.worked = [0.0] * count
        self.sent = 0
        self._busy = [False] * count
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = itertools.count()

    def job(self, machine: int) -> Iterator[float] | None:
        """Return the next job of an idle machine; None: it waits for a message."""
        raise NotImplementedError

    def run(self, until: float) -> None:
        """Let events happen until a time, or until nothing more can happen."""
        if not self.now:
            self.wake(0)
        while self._events and self._events[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)
        if until < math.inf:
            self.now = until

    def wake(self, machine: int) -> None:
        """Begin a machine's next job, if it is idle and has one."""
        if not self._busy[machine] and (job := self.job(machine)) is not None:
            self._busy[machine] = True
            self._continue(machine, job)

    def post(self, action: Callable[..., None], *arguments: object, reliable: bool) -> None:
        """Call an action when a message has crossed the network.

        Args:
            action: What receives it, with the arguments.
            reliable: Whether a lost message is repeated; else nothing is called.
        """
        self.sent += 1
        under_way = self.network.reliable() if reliable else self.network.transit()
        if under_way is not None:
            self._after(under_way, action, *arguments)

    def _after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._number), action, arguments))

    def _continue(self, machine: int, job: Iterator[float]) -> None:
        amount = next(job, None)
        if amount is None:
            self._busy[machine] = False
            self.wake(machine)
            return
        self.worked[machine] += amount
        slow = machine == len(self.worked) // 2
        self._after(self.network.work(amount, slow=slow), self._continue, machine, job)


def data_parallel_step(network: Network, count: int, amount: float, *, ring: bool) -> float:
    """Return the time of a step of machines that each process a part of the minibatch and then add up their gradients.

    Args:
        network: How long work and messages take.
        count: Of machines.
        amount: Work of each.
        ring: Whether the gradients travel around a ring in 2 (count - 1) rounds (reduce-scatter and all-gather); else every
            machine sends its own to every other at once, one round of count (count - 1) messages.
    """
    taken = max(network.work(amount, slow=machine == count // 2) for machine in range(count))
    rounds, messages = (2 * (count - 1), count) if ring else (1, count * (count - 1))
    return taken + sum(max(network.reliable() for _ in range(messages)) for _ in range(rounds))
