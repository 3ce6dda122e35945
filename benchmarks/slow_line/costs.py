"""Bytes and seconds that a step takes over a line, as formulas of the model's size, its batch, the line and the machines.

The model is a GPT (`Shape`); each machine computes at the same speed, and there is a line between any two (`Setup`). A way of
training is a class with `sent`, `computing` and `seconds`. Headers, lost packets and the processors' time for communication are
left out. `../reach.py` compares the formulas with runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from network import Setting

from antiphon.distributed.automatic_link import LinkChoice
from antiphon.distributed.parts.packing import sample_bytes
from antiphon.distributed.ray.worker import MeasuredLine

FLOATS = 32
BITS = (FLOATS, 16, 8, 4)
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
"""Of DistributedDataParallel: bytes of gradients."""
FORWARD = 1 / 3
"""Share of the forward pass in the operations of a step."""


@dataclass(frozen=True)
class Shape:
    """A GPT and its batch.

    Attributes:
        blocks: Transformer blocks.
        width: Features of a token.
        length: Tokens of a window.
        batch: Windows a step, of all machines together.
        classes: Of the vocabulary.
        tied: Whether the head is the token embedding.
    """

    blocks: int = 8
    width: int = 96
    length: int = 64
    batch: int = 16
    classes: int = 77
    tied: bool = False

    @property
    def block_parameters(self) -> int:
        """Parameters of a block."""
        return 12 * self.width**2 + 13 * self.width

    @property
    def last_parameters(self) -> int:
        """Parameters of the last layers: the norm and the head."""
        return (self.classes + 2) * self.width

    @property
    def parameters(self) -> int:
        """Parameters of the model."""
        tables = self.length + (0 if self.tied else self.classes)
        return self.blocks * self.block_parameters + self.last_parameters + tables * self.width

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.batch * self.length

    @property
    def block_flop(self) -> float:
        """FLOP of a block's forward and backward pass; each token meets all of its window."""
        return self.tokens * (72 * self.width**2 + 12 * self.length * self.width)

    @property
    def last_flop(self) -> float:
        """FLOP of the last layers' forward and backward pass."""
        return self.tokens * 6 * self.classes * self.width

    @property
    def flop(self) -> float:
        """FLOP of a step of the model."""
        return self.blocks * self.block_flop + self.last_flop

    @property
    def local_flop(self) -> float:
        """FLOP of the local loss that `antiphon.split` gives a part: the last layers, with a block before unless it is smaller."""
        return self.last_flop + (self.block_flop if self.block_parameters >= self.last_parameters else 0.0)


@dataclass(frozen=True)
class Setup:
    """What is trained, and on what.

    Attributes:
        shape: The model and its batch.
        line: Between any two machines.
        flops: FLOP per second of a machine.
    """

    shape: Shape
    line: Setting
    flops: float

    @property
    def latency(self) -> float:
        """Seconds one way."""
        return self.line.ms / 1e3

    @property
    def whole(self) -> float:
        """Seconds in which one machine computes a step of the model."""
        return self.shape.flop / self.flops

    def transfer(self, nbytes: float) -> float:
        """Return the seconds for which bytes take up the line."""
        return 8 * nbytes / (self.line.mbit * 1e6) if self.line.mbit else 0.0


class Way(Protocol):
    """A way of training."""

    @property
    def machines(self) -> int:
        """How many there are."""

    def sent(self, setup: Setup) -> float:
        """Return the bytes a step over a line, in the direction that carries most."""

    def computing(self, setup: Setup) -> float:
        """Return the seconds a step for which the busiest machine computes."""

    def seconds(self, setup: Setup) -> float:
        """Return the seconds of a step."""


@dataclass(frozen=True)
class OneMachine:
    """The plain training loop."""

    machines: int = 1

    def sent(self, setup: Setup) -> float:
        """See `Way`."""
        return 0.0

    def computing(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole

    def seconds(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole


@dataclass(frozen=True)
class Parts:
    """`antiphon.split` in parts of about equal work, with `delay: auto` and `bits: auto`.

    Activations cross once, while all machines compute: a step takes the longer of the two.
    """

    machines: int = 2

    def sent(self, setup: Setup) -> float:
        """See `Way`."""
        return message(setup.shape, self.bits(setup))

    def bits(self, setup: Setup) -> int:
        """Return the bits of a component that the parts choose for the line."""
        floats = message(setup.shape, FLOATS)
        line = MeasuredLine(0, 1, setup.latency, round(floats), setup.transfer(floats))
        shorter = {bits: [floats - message(setup.shape, bits)] for bits in BITS}
        return LinkChoice.for_lines([line], self.computing(setup), shorter).bits

    def computing(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole / self.machines + setup.shape.local_flop / setup.flops

    def seconds(self, setup: Setup) -> float:
        """See `Way`."""
        return max(self.computing(setup), setup.transfer(self.sent(setup)))

    def rank(self, setup: Setup) -> int:
        """Return how many features of a token cross, in the fewest bits, while a step is computed."""
        each = setup.transfer(setup.shape.tokens * BITS[-1] / 8)
        return min(setup.shape.width, int(self.computing(setup) / each)) if each else setup.shape.width


@dataclass(frozen=True)
class Pipeline:
    """A synchronous pipeline, 1F1B, which has as many micro-batches under way as machines.

    A transfer begins when its sender has been told that the receiver waits for it: it takes the latency twice.

    Attributes:
        micro_batches: Of a step.
        bits: Of a component of activations and of their gradients.
    """

    machines: int = 2
    micro_batches: int = 4
    bits: int = FLOATS

    def sent(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.shape.tokens * setup.shape.width * self.bits / 8

    def computing(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole / self.machines

    def seconds(self, setup: Setup) -> float:
        """See `Way`."""
        others, count = self.machines - 1, self.micro_batches
        computing, transfer = self.computing(setup) / count, setup.transfer(self.sent(setup)) / count
        each = computing + 2 * others / self.machines * (transfer + 2 * setup.latency)
        return count * each + others * (computing + transfer)


@dataclass(frozen=True)
class DataParallel:
    """DistributedDataParallel: gradients go around a ring during the backward pass, all but the last bucket.

    Attributes:
        bits: Of a component of gradients.
    """

    machines: int = 2
    bits: int = 16

    def sent(self, setup: Setup) -> float:
        """See `Way`."""
        return around(setup.shape.parameters * self.bits / 8, self.machines)

    def computing(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole / self.machines

    def seconds(self, setup: Setup) -> float:
        """See `Way`."""
        computing, exchange = self.computing(setup), setup.transfer(self.sent(setup))
        whole = 4 * setup.shape.parameters
        last = exchange * (min(BUCKET, whole - FIRST_BUCKET) / whole if whole > FIRST_BUCKET else 1)
        latency = 2 * (self.machines - 1) * setup.latency
        return max(computing, FORWARD * computing + exchange - last + latency) + last + latency


@dataclass(frozen=True)
class DiLoCo:
    """Parameters are averaged around a ring every so many steps.

    Attributes:
        every: Steps between two meetings.
    """

    machines: int = 2
    every: int = 64

    def sent(self, setup: Setup) -> float:
        """See `Way`."""
        return around(setup.shape.parameters * FLOATS / 8, self.machines) / self.every

    def computing(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole / self.machines

    def seconds(self, setup: Setup) -> float:
        """See `Way`."""
        latency = 2 * (self.machines - 1) * setup.latency / self.every
        return self.computing(setup) + setup.transfer(self.sent(setup)) + latency


@dataclass(frozen=True)
class StreamingDiLoCo:
    """A share of the parameters at a time, which all machines send to all others while they compute.

    Attributes:
        every: Steps between two meetings over the same parameters.
        bits: Of a component.
        shares: Of the parameters.
        overlap: Steps after which an exchange is waited for.
    """

    machines: int = 2
    every: int = 64
    bits: int = 4
    shares: int = 4
    overlap: int = 5

    def sent(self, setup: Setup) -> float:
        """See `Way`."""
        return (self.machines - 1) * setup.shape.parameters * self.bits / 8 / self.every

    def computing(self, setup: Setup) -> float:
        """See `Way`."""
        return setup.whole / self.machines

    def seconds(self, setup: Setup) -> float:
        """See `Way`."""
        computing, meetings = self.computing(setup), self.shares / self.every
        exchange = setup.transfer(self.sent(setup) / meetings) + (self.machines - 1) * setup.latency
        return computing + meetings * max(0.0, exchange - self.overlap * computing)


def message(shape: Shape, bits: int) -> float:
    """Return the bytes of a batch's activations across a cut."""
    return shape.batch * sample_bytes(shape.length * shape.width, None if bits == FLOATS else bits)


def around(nbytes: float, machines: int) -> float:
    """Return the bytes that each machine sends to sum so many around a ring."""
    return 2 * (machines - 1) / machines * nbytes
