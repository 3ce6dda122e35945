"""Ablation: what each agent loses without each channel, with common random numbers and intervals.

A channel's messages are replaced before they go out, one channel at a time; what the links lose and add stays the
same, and losses are compared example by example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.progress import Progress
from antiphon.engine.inference.evaluation import examples, first_lines, rollout_seed
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import Deliver, ExampleRollout, Scores, with_targets
from antiphon.engine.probes.truth import chosen_channels
from antiphon.engine.running import Holder, Running, running_of
from antiphon.nets.random import seed_for, uniform
from antiphon.telemetry.figures import Figure
from antiphon.telemetry.statistics import student_t
from antiphon.telemetry.verdicts import Verdict, bounds, worth

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
    """The change of each agent's scores without each channel.

    Attributes:
        kind: The replacement of the messages, one of `ABLATIONS`.
        split: The examples' split.
        links: The links of the evaluation.
        examples: The number of examples.
        readout: The scenario's readouts.
        intact: By agent with an objective: `loss` and its metric with every channel in place.
        channels: By channel and agent: by `loss` and metric, the change without the channel.
        readouts: By channel: the changes of the readouts' mean `loss`, and of their mean metric if all have the same.
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
        """Return the channels, most needed first: by the change of the readouts' mean loss, or of an agent's."""

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
    simulation: Running | Holder,
    kind: str,
    *,
    split: str = "test",
    channels: Sequence[str] | None = None,
    links: Links | str = _PERFECT,
    limit: int | None = None,
) -> Ablation:
    """Evaluate a system with the messages of one channel after the other replaced.

    Args:
        simulation: The simulation to evaluate; no bit of it changes.
        kind: The replacement of the messages, one of `ABLATIONS`.
        split: The part of the data.
        channels: The channels; None: all.
        links: The links, or their kind. Losses are sampled from the run's seed, the same with and without the channel.
        limit: The largest number of examples, spread evenly over the split; None: all.

    Raises:
        ScenarioError: No such channel or split, or the scenario has no channels.
    """
    running = running_of(simulation)
    system, links = running.system, Links(links) if isinstance(links, str) else links
    check_kind(kind)
    names = chosen_channels(list(system.channels), channels, "ablate: channel")
    if not names:
        raise ScenarioError("ablate: the scenario has no channels")
    if limit is not None and limit < 1:
        raise ScenarioError(f"examples: must be at least 1, not {limit}")
    check_readouts(running)
    goals = with_targets(system)
    batches = list(examples(running.world.env, split, limit, _ROWS))
    seeds = [rollout_seed(running.seed, split, number) for number in range(len(batches))]

    sums: dict[tuple[str, int], Tensor] = {}

    def scores(number: int, deliver: Deliver | None = None) -> Scores:
        how: dict[str, Any] = {"seed": seeds[number], "ends": goals, "deliver": deliver}
        return ExampleRollout(system, batches[number], links, **how).scores()

    def add(name: str, stamp: int, message: Tensor) -> Tensor:
        total = message.sum(0)
        sums[name, stamp] = sums[name, stamp] + total if (name, stamp) in sums else total
        return message

    intact = [scores(number, add if kind == "mean" else None) for number in range(len(batches))]
    rows = [len(next(iter(batch.values()))) for batch in batches]
    count = sum(rows)
    means = {place: total / count for place, total in sums.items()}
    changes: dict[str, list[Scores]] = {name: [] for name in names}
    with Progress("ablating", len(names) * len(batches)) as progress:
        for number, before in enumerate(intact):
            order = uniform(seed_for(seeds[number], "ablation"), 0, rows[number]).argsort()
            partner = torch.empty_like(order)  # one random cycle through all examples of the batch
            partner[order] = order.roll(1)
            for name in names:
                after = scores(number, _without(name, kind, means, partner))
                changes[name].append({a: {m: after[a][m] - v for m, v in before[a].items()} for a in before})
                progress.advance()
    readouts = running.scenario.readouts
    metrics = {goals[readout].objective.metrics for readout in readouts}
    shared = ["loss", *(metrics.pop() if len(metrics) == 1 else ())]
    found = Ablation(kind, split, links, count, readouts, _map(lambda v: v.nanmean().item(), _joined(intact)))
    for name in names:
        pairs = _joined(changes[name])
        found.channels[name] = _map(_change, pairs)
        found.readouts[name] = {
            m: _change(torch.stack([pairs[a][m] for a in readouts]).nanmean(0)) for m in shared
        }
    return found


def ablation_rows(found: Ablation) -> list[Figure]:
    """Return the changes of the readouts' loss as metrics of channels, each with the ends of its interval."""
    rows = []
    for name, changes in found.readouts.items():
        change = changes["loss"]
        rows.append(Figure("channel", name, "ablation", change.value))
        ends = zip(bounds("ablation"), change.interval or (), strict=False)
        rows += [Figure("channel", name, metric, end) for metric, end in ends]
    return rows


def check_readouts(running: Running) -> None:
    """Raise ScenarioError where a readout has no loss of an example by which channels can be ranked."""
    goals = with_targets(running.system)
    for name in running.scenario.readouts:
        if name not in goals:
            raise ScenarioError(
                f"ablate: the readout '{name}' learns from rewards, and has no loss per example; name a readout with a target"
            )


def _change(pairs: Tensor) -> Change:
    """Return the change over the examples with a target."""
    pairs = pairs[~pairs.isnan()]
    return Change.of(pairs, student_t(len(pairs) - 1) if len(pairs) > 1 else None)


def _map(function: Callable[[Tensor], T], scores: Scores) -> dict[str, dict[str, T]]:
    return {a: {m: function(v) for m, v in own.items()} for a, own in scores.items()}


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
