"""Ablation: what each agent loses without each channel, with common random numbers and intervals.

A channel's messages are replaced before they go out, one channel at a time; what the links lose and add stays the
same, and losses are compared example by example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.heart.system import System
from antiphon.engine.inference.evaluation import examples, first_lines, rollout_seed
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import Deliver, ExampleRollout, Scores, with_targets
from antiphon.errors import ScenarioError, suggest
from antiphon.nets.random import seed_for, uniform
from antiphon.telemetry.figures import Figure
from antiphon.telemetry.statistics import student_t
from antiphon.telemetry.verdicts import Verdict, bounds, worth

__all__ = ["ABLATIONS", "Ablation", "Change", "ablate", "ablation_rows", "check_kind", "check_readouts"]

ABLATIONS = ("zero", "mean", "resample")
"""What messages are replaced by: zeros, their mean over the examples, or the message made for another example."""
_ROWS = 500
"""Examples at once, at most."""
_PERFECT = Links()
T = TypeVar("T")


def check_kind(kind: str) -> None:
    """Raise ScenarioError where nothing of this name is sent in place of messages."""
    if kind not in ABLATIONS:
        raise ScenarioError(f"ablate: no kind '{kind}'{suggest(kind, ABLATIONS)}")


@dataclass(frozen=True)
class Change:
    """A mean over examples of ablated minus intact, with its 95 % interval.

    Attributes:
        value: The mean.
        half: Half the interval's width, Student's t over the pairs; None for a single example.
    """

    value: float
    half: float | None

    @classmethod
    def of(cls, pairs: Tensor, quantile: float | None) -> Change:
        """Return the mean of paired differences, [examples]; `quantile`: Student's t for so many, None for only one."""
        if quantile is None:
            return cls(pairs.mean().item(), None)
        return cls(pairs.mean().item(), quantile * pairs.std().item() / math.sqrt(len(pairs)))

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves zero out, on either side."""
        return self.half is not None and abs(self.value) > self.half

    @property
    def sign(self) -> int:
        """1 where the interval lies above zero, -1 where it lies below, 0 where it holds zero or is not known.

        Of a loss, 1: the channel matters; -1: it harms.
        """
        return 0 if not self.resolved else 1 if self.value > 0 else -1

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval; None for a single example."""
        return None if self.half is None else (self.value - self.half, self.value + self.half)

    @property
    def verdict(self) -> Verdict:
        """The verdict of a loss's change on the channel; without an interval it is unresolved."""
        return worth(*(self.interval or (None, None))) or "unresolved"

    def __str__(self) -> str:
        return f"{self.value:+.4f}" + ("" if self.half is None else f" ± {self.half:.4f}")


@dataclass(frozen=True)
class Ablation:
    """What each agent loses without each channel.

    Attributes:
        kind: What messages were replaced by.
        split: The examples' split.
        links: How messages travelled.
        examples: How many there were.
        readout: The scenario's readouts.
        intact: By agent with an objective: `loss` and its metric with every channel in place.
        channels: By channel and agent: by `loss` and metric, the change without the channel.
        readouts: By channel: the changes of the readouts' means: of `loss`, and of the metric if they all have the same.
    """

    kind: str
    split: str
    links: Links
    examples: int
    readout: tuple[str, ...]
    intact: dict[str, dict[str, float]]
    channels: dict[str, dict[str, dict[str, Change]]] = field(default_factory=dict)
    readouts: dict[str, dict[str, Change]] = field(default_factory=dict)

    def ranked(self, agent: str | None = None) -> list[str]:
        """Return the channels, most needed first: by what the readouts' mean loss, or an agent's, gains without it."""

        def gain(channel: str) -> float:
            changes = self.readouts[channel] if agent is None else self.channels[channel][agent]
            return changes["loss"].value

        return sorted(self.channels, key=lambda channel: (-gain(channel), channel))

    def __str__(self) -> str:
        head = f"ablation ({self.kind}) over {self.examples:,} examples of {self.split}: change of the readouts' loss"
        changes = [(name, self.readouts[name]["loss"]) for name in self.ranked()]
        lines = [f"  {name}: {change} ({change.verdict})" for name, change in changes]
        return first_lines(head, lines, "readouts")


def ablate(
    simulation: BaseSimulation,
    kind: str,
    *,
    split: str = "test",
    channels: Sequence[str] | None = None,
    links: Links | str = _PERFECT,
    limit: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Ablation:
    """Evaluate a system with the messages of one channel after the other replaced.

    Args:
        simulation: What to evaluate; no bit of it changes.
        kind: What messages are replaced by: one of `ABLATIONS`.
        split: The part of the data.
        channels: Which; None: all.
        links: How messages travel, with or without the channel (a word for their kind will do); what they lose is
            drawn from the run's seed.
        limit: At most so many examples, spread evenly over the split; None: all.
        watch: Called with how many rollouts are done, and of how many.

    Raises:
        ScenarioError: No such channel or split, or nothing to do without.
    """
    system, links = simulation._system, Links.read(links)
    check_kind(kind)
    names = list(system.channels) if channels is None else list(dict.fromkeys(channels))
    for name in names:
        if name not in system.channels:
            raise ScenarioError(f"channels: no channel '{name}'{suggest(name, system.channels)}")
    if not names:
        raise ScenarioError("ablate: the scenario has no channel to do without")
    if limit is not None and limit < 1:
        raise ScenarioError(f"examples: must be at least 1, not {limit}")
    check_readouts(simulation)
    goals = with_targets(system)
    batches = [
        _Batch(system, batch, links, rollout_seed(simulation.seed, split, number), goals)
        for number, batch in enumerate(examples(simulation.world.env, split, limit, _ROWS))
    ]
    intact, changes = _scores(batches, kind, names, watch)
    count = sum(batch.rows for batch in batches)
    quantile = student_t(count - 1) if count > 1 else None
    readouts = simulation.scenario.readouts
    metrics = [goals[readout].objective.metric for readout in readouts]
    shared = ["loss", *set(metrics)] if len(set(metrics)) == 1 else ["loss"]
    found = Ablation(kind, split, links, count, readouts, _map(lambda v: v.mean().item(), intact))
    for name, pairs in changes.items():
        found.channels[name] = _map(lambda pair: Change.of(pair, quantile), pairs)
        found.readouts[name] = {
            m: Change.of(torch.stack([pairs[a][m] for a in readouts]).mean(0), quantile) for m in shared
        }
    return found


def ablation_rows(found: Ablation) -> list[Figure]:
    """Return the changes of the readouts' loss as figures of channels, each with the ends of its interval."""
    rows = []
    for name, changes in found.readouts.items():
        change = changes["loss"]
        rows.append(Figure("channel", name, "ablation", change.value))
        ends = zip(bounds("ablation"), change.interval or (), strict=False)
        rows += [Figure("channel", name, metric, end) for metric, end in ends]
    return rows


def check_readouts(simulation: BaseSimulation) -> None:
    """Raise ScenarioError where a readout has no loss of an example by which channels can be ranked."""
    goals = with_targets(simulation._system)
    for name in simulation.scenario.readouts:
        if name not in goals:
            raise ScenarioError(
                f"ablate: the readout '{name}' learns from rewards, which are no loss of an example; name a readout with a "
                "target"
            )


def _map(function: Callable[[Tensor], T], scores: Scores) -> dict[str, dict[str, T]]:
    return {a: {m: function(v) for m, v in own.items()} for a, own in scores.items()}


@dataclass(frozen=True)
class _Batch:
    """Examples that are shown at once, in the same way every time: with the same random numbers."""

    system: System
    signals: Mapping[str, Tensor]
    links: Links
    seed: int
    ends: Collection[str]

    @property
    def rows(self) -> int:
        return len(next(iter(self.signals.values())))

    def scores(self, deliver: Deliver | None = None) -> Scores:
        """Return loss and metric per example with what is sent in place of messages; None: they are."""
        rollout = ExampleRollout(
            self.system, self.signals, self.links, seed=self.seed, ends=self.ends, deliver=deliver
        )
        return rollout.scores(rollout.ports)


def _scores(
    batches: Sequence[_Batch],
    kind: str,
    names: Sequence[str],
    watch: Callable[[int, int], None] | None,
) -> tuple[Scores, dict[str, Scores]]:
    """Return the scores of the examples with every channel in place, and their changes without each."""
    sums: dict[tuple[str, int], Tensor] = {}

    def add(name: str, stamp: int, message: Tensor) -> Tensor:
        total = message.sum(0)
        sums[name, stamp] = sums[name, stamp] + total if (name, stamp) in sums else total
        return message

    intact = [batch.scores(add if kind == "mean" else None) for batch in batches]
    means = {place: total / sum(batch.rows for batch in batches) for place, total in sums.items()}
    changes: dict[str, list[Scores]] = {name: [] for name in names}
    for number, (batch, before) in enumerate(zip(batches, intact, strict=True)):
        partner = _partners(batch.rows, batch.seed)
        for done, name in enumerate(names, 1):
            after = batch.scores(_without(name, kind, means, partner))
            changes[name].append({a: {m: after[a][m] - v for m, v in before[a].items()} for a in before})
            if watch is not None:
                watch(number * len(names) + done, len(names) * len(batches))
    return _joined(intact), {name: _joined(found) for name, found in changes.items()}


def _partners(rows: int, seed: int) -> Tensor:
    """Return for each example another one of its batch, [rows]: one random cycle through all of them."""
    order = uniform(seed_for(seed, "ablation"), 0, rows).argsort()
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def _joined(batches: Sequence[Scores]) -> Scores:
    first = batches[0]
    return {a: {m: torch.cat([batch[a][m] for batch in batches]) for m in first[a]} for a in first}


def _without(channel: str, kind: str, means: Mapping[tuple[str, int], Tensor], partner: Tensor) -> Deliver:
    """Return what replaces the messages of one channel."""

    def deliver(name: str, stamp: int, message: Tensor) -> Tensor:
        if name != channel:
            return message
        if kind == "mean":
            return means[name, stamp].expand_as(message)
        return message[partner.to(message.device)] if kind == "resample" else torch.zeros_like(message)

    return deliver
