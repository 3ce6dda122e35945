"""Ablation: what each agent loses without each channel, with common random numbers and intervals.

A channel's messages are replaced before they go out, one channel at a time; what the links lose and add stays the
same. Losses are compared example by example, returns episode by episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import ScenarioError
from antiphon.base.mask import ALL, Mask
from antiphon.base.nearest_names import suggest
from antiphon.base.progress import Progress
from antiphon.engine.inference.evaluation import (
    as_evaluated,
    check_episodes,
    example_batches,
    first_lines,
    play,
    policies,
    rewards_of,
    rollout_seed,
)
from antiphon.engine.inference.live_inference import environment_of
from antiphon.engine.inference.rollout import (
    Counts,
    Deliver,
    EnvironmentRollout,
    ExampleRollout,
    Scores,
    with_targets,
)
from antiphon.engine.inference.rollout_links import Links
from antiphon.engine.live_system import Holder, LiveSystem, running_of
from antiphon.inspection.truth import chosen_channels
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios.training import RETURN, less_is_better
from antiphon.telemetry.metrics import Metric, bounds
from antiphon.telemetry.statistics import Worth, student_t, worth

_ROWS = 500
"""Examples at once, at most."""
_EPISODES = 200
"""Episodes of all environments together that are played by default, at least."""
_PERFECT = Links()
T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """A mean over examples or episodes of ablated minus intact, with its 95 % interval.

    Attributes:
        value: The mean.
        half: Half the interval's width, Student's t over the pairs (of several agents with the fewest of any); None for a single pair.
        metric: What changes.
    """

    value: float
    half: float | None
    metric: str = "loss"

    @classmethod
    def of(cls, metric: str, pairs: Tensor, counts: Tensor | None = None) -> Change:
        """Return the mean of paired differences, as an evaluation has it: over the targets of each agent, then over agents.

        Args:
            metric: What changes.
            pairs: [pairs], or of several agents [agents, pairs]; NaN: the pair has no target.
            counts: As how many targets each counts; None: as one.
        """
        pairs = pairs.view(-1, pairs.shape[-1])
        present = ~pairs.isnan()
        counts = torch.ones_like(pairs) if counts is None else counts.view_as(pairs).to(pairs)
        counts = counts.where(present, 0.0)
        agents, rows = present.any(1), present.any(0)
        least = int(present[agents].sum(1).min()) if bool(agents.any()) else 0
        pairs, counts = pairs[agents][:, rows], counts[agents][:, rows]
        if bool((counts != 1).any()):
            # what each pair adds to the means, so that these and their error are those of plain numbers
            shares = counts / counts.sum(1, keepdim=True)
            means = _mean(pairs, counts).unsqueeze(1)
            pairs = means + len(pairs.T) * shares * (pairs - means).where(counts > 0, 0.0)
        pairs = pairs.mean(0)
        if least < 2:
            return cls(pairs.mean().item(), None, metric)
        error = pairs.std().item() / math.sqrt(len(pairs))
        return cls(pairs.mean().item(), student_t(least - 1) * error, metric)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval; None for a single pair."""
        return None if self.half is None else (self.value - self.half, self.value + self.half)

    @property
    def cost(self) -> Change:
        """The change for the worse: that of a loss, or minus that of an accuracy or a return."""
        # 0 - 0 is 0, and not -0
        return self if less_is_better(self.metric) else Change(0.0 - self.value, self.half, self.metric)

    @property
    def verdict(self) -> Worth:
        """One word for the channel, by the interval of its `cost`; without an interval it is unresolved."""
        return "unresolved" if self.cost.interval is None else worth(*self.cost.interval)

    def __str__(self) -> str:
        return f"{self.value:+.4f}" + ("" if self.half is None else f" ± {self.half:.4f}")

    __repr__ = __str__


@dataclass(frozen=True)
class Ablation:
    """The change of each agent's scores without each channel.

    Attributes:
        kind: The replacement of the messages, one of `ABLATIONS`.
        measure: What channels are ranked by: `loss` over examples, or `return` over episodes where the readouts act.
        count: The number of examples or episodes.
        intact: With every channel in place, by agent with an objective: `loss` and its metric; or by agent that acts: `return`.
        channels: By channel and agent: by metric, the change without the channel.
        readouts: By channel: the changes of the readouts' mean `measure`, and of their mean metric if all have the same.
    """

    kind: str
    split: str
    links: Links
    measure: str
    count: int
    readout: tuple[str, ...]
    intact: dict[str, dict[str, float]]
    channels: dict[str, dict[str, dict[str, Change]]] = field(default_factory=dict)
    readouts: dict[str, dict[str, Change]] = field(default_factory=dict)

    def change(self, channel: str) -> Change:
        """Return the change of the readouts' mean loss or return without a channel."""
        return self.readouts[channel][self.measure]

    def ranked(self, agent: str | None = None) -> list[str]:
        """Return the channels, most needed first: by the change of the readouts' mean loss or return, or of an agent's."""

        def cost(channel: str) -> float:
            changes = self.readouts[channel] if agent is None else self.channels[channel][agent]
            return changes[self.measure].cost.value

        return sorted(self.channels, key=lambda channel: (-cost(channel), channel))

    @property
    def metric(self) -> str:
        """The channels' metric, which names the kind."""
        return f"ablation_{self.kind}"

    @property
    def pairs(self) -> str:
        """How many examples or episodes were compared, in words."""
        return f"{self.count:,} {'episodes' if self.measure == RETURN else 'examples'}"

    def __str__(self) -> str:
        head = f"ablation ({self.kind}) over {self.pairs} of {self.split}: change of the readouts' {self.measure}"
        changes = [(name, self.change(name)) for name in self.ranked()]
        lines = [f"  {name}: {change} ({change.verdict})" for name, change in changes]
        return first_lines(head, lines, "readouts")

    __repr__ = __str__


def ablate(
    simulation: LiveSystem | Holder,
    kind: str,
    *,
    split: str = "test",
    channels: Sequence[str] | None = None,
    links: Links | str = _PERFECT,
    examples: int | None = None,
    episodes: int | None = None,
    sampled: bool = False,
) -> Ablation:
    """Evaluate a system with the messages of one channel after the other replaced.

    Where the readouts act, whole episodes are played from the same seeds with and without each channel, and the returns of
    each pair of episodes compared.

    Args:
        simulation: The simulation to evaluate; no bit of it changes.
        kind: The replacement of the messages, one of `ABLATIONS`.
        split: The part of the data; in an environment without splits, the name of different episodes.
        channels: The channels; None: all.
        links: The links, or their kind. Which messages are lost is sampled from the run's seed, alike with and without the channel.
        examples: The largest number of examples, spread evenly over the split; None: all.
        episodes: Episodes of each environment, where the readouts act; None: so many that there are 200 of all together.
        sampled: Whether actions are sampled, where the readouts act; else each is the most likely one.

    Raises:
        ScenarioError: No such channel or split, the scenario has no channels, some readouts act and others do not, or a
            setting that has no effect.
        RunError: An environment does not finish its episodes.
    """
    running = running_of(simulation)
    running.synchronize()
    system = running.evaluated.single_system
    links = Links.given(links, system)
    if not system.channels:
        raise ScenarioError("ablate: the scenario has no channels; evaluate the run without")
    names = chosen_channels(list(system.channels), channels, "ablate: channel")
    if not names:
        raise ScenarioError("ablate: channels is empty; name one, or leave it out")
    acting = check_measured(running, kind, examples, episodes, sampled=sampled)
    with as_evaluated(system):
        evaluated: _Evaluated
        if acting:
            evaluated = _EpisodeSamples(running, split, links, episodes, sampled)
        else:
            evaluated = _Examples(running, split, links, examples)
        return _ablated(running, kind, split, links, names, evaluated)


def ablation_rows(ablation: Ablation) -> list[Metric]:
    """Return what the readouts lose as metrics of channels, each with the ends of its interval."""
    rows = []
    for name in ablation.readouts:
        cost = ablation.change(name).cost
        rows.append(Metric("channel", name, ablation.metric, cost.value))
        ends = zip(bounds(ablation.metric), cost.interval or (), strict=False)
        rows += [Metric("channel", name, metric, end) for metric, end in ends]
    return rows


def check_measured(
    running: LiveSystem, kind: str, count: int | None, episodes: int | None, *, sampled: bool
) -> bool:
    """Return whether the readouts act; ScenarioError where nothing can be measured, or a setting has no effect (see `ablate`)."""
    if kind not in ABLATIONS:
        raise ScenarioError(f"ablate: no kind '{kind}'{suggest(kind, ABLATIONS)}")
    acting = readouts_act(running)
    if acting and count is not None:
        raise ScenarioError("examples: has no effect where the readouts act; use episodes")
    if acting and kind == "resample" and running.env.num_envs < 2:
        raise ScenarioError(
            "ablate: resample needs messages of another environment; set training.batch to 2 or more"
        )
    if not acting and (episodes is not None or sampled):
        name = "sampled" if episodes is None else "episodes"
        raise ScenarioError(f"{name}: has no effect on the loss of examples; leave it out")
    return acting


def readouts_act(running: LiveSystem) -> bool:
    """Return whether the readouts act; ScenarioError where only some do, or none does and there are no single examples."""
    system = running.evaluated.single_system
    acting = policies(system)
    rewarded = next((name for name in running.scenario.readouts if name in acting), None)
    targeted = next((name for name in running.scenario.readouts if name not in acting), None)
    if rewarded is not None and targeted is not None:
        raise ScenarioError(
            f"ablate: the readout '{rewarded}' learns from rewards and '{targeted}' from a target; name readouts of one sort"
        )
    if targeted is not None and not system.description.is_stream:
        raise ScenarioError(
            "ablate: needs single examples, such as those of a data set, or readouts that learn from rewards; measure the value instead"
        )
    return rewarded is not None


# --- what is evaluated with and without a channel ----------------------------------------------------------


class _Examples:
    """The examples of a split, each evaluated with the same random numbers as often as it is asked for."""

    measure = "loss"
    in_step = True
    """All rows of a step are as far in their example: means are of the messages of a step."""
    counts: Counts

    def __init__(self, running: LiveSystem, split: str, links: Links, count: int | None) -> None:
        check_counts("ablate", examples=count)
        self._stacks, self._links = running.evaluated.system, links
        self._goals = with_targets(running.evaluated.single_system)
        self._batches = list(example_batches(running.world.env, split, count, _ROWS))
        self.seeds = [rollout_seed(running.seed, split, number) for number in range(len(self._batches))]
        self.rows = [len(next(iter(batch.values()))) for batch in self._batches]

    def scores(self, batch: int, deliver: Deliver | None, progress: Progress) -> Scores:
        ends = with_targets(self._stacks)
        how: dict[str, Any] = {"seed": self.seeds[batch], "ends": ends, "deliver": deliver}
        scores, self.counts = ExampleRollout(self._stacks, self._batches[batch], self._links, **how).scores()
        progress.advance(self.rows[batch])
        return scores

    def shared(self, readouts: Sequence[str]) -> Sequence[str]:
        metrics = {self._goals[readout].objective.metrics for readout in readouts}
        return ["loss", *(metrics.pop() if len(metrics) == 1 else ())]


class _EpisodeSamples:
    """The first episode of each of an environment's copies, from as many seeds as episodes are wanted of each."""

    measure = RETURN
    in_step = False
    counts: Counts

    def __init__(
        self, running: LiveSystem, split: str, links: Links, episodes: int | None, sampled: bool
    ) -> None:
        check_episodes(running.env, split, episodes)
        copies = running.env.num_envs
        count = -(-_EPISODES // copies) if episodes is None else episodes
        self._stacks, self._links, self._sampled = running.evaluated.system, links, sampled
        self._rewards = rewards_of(running.evaluated.single_system)
        self._make = partial(environment_of, running, copies, split if running.env.splits else None)
        self.seeds = [rollout_seed(running.seed, split, number) for number in range(count)]
        self.rows = [copies] * count

    def scores(self, batch: int, deliver: Deliver | None, progress: Progress) -> Scores:
        before = progress.done
        with closing(self._make()) as env:
            how: dict[str, Any] = {"sampled": self._sampled, "deliver": deliver}
            rollout = EnvironmentRollout(self._stacks, env, self._links, self.seeds[batch], **how)
            table = play(rollout, 1, 0, lambda done, total: progress.advance(before + done - progress.done))
        returns = table.returns
        scores = {
            name: {RETURN: returns[reward_name][0].cpu()} for name, reward_name in self._rewards.items()
        }
        self.counts = _map(lambda metric, rows: torch.ones_like(rows), scores)
        return scores

    def shared(self, readouts: Sequence[str]) -> Sequence[str]:
        return [RETURN]


_Evaluated = _Examples | _EpisodeSamples


def _ablated(
    running: LiveSystem, kind: str, split: str, links: Links, names: Sequence[str], evaluated: _Evaluated
) -> Ablation:
    """Evaluate each batch with every channel in place, then without each of some."""
    replacement = _REPLACEMENTS[kind](evaluated)
    changes: dict[str, list[Scores]] = {name: [] for name in names}
    counts_by_batch: list[Counts] = []
    with Progress("ablating", (1 + len(names)) * sum(evaluated.rows)) as progress:
        batches = range(len(evaluated.seeds))
        evaluations = (evaluated.scores(batch, replacement.watch(batch), progress) for batch in batches)
        intact = list(evaluations) if replacement.of_all_batches else []
        for batch, before in enumerate(intact or evaluations):
            if not replacement.of_all_batches:
                intact.append(before)
            without = [(name, replacement.without(name, batch)) for name in names]
            for name, deliver in without:
                after = evaluated.scores(batch, deliver, progress)
                changes[name].append({a: {m: after[a][m] - v for m, v in before[a].items()} for a in before})
            counts_by_batch.append(evaluated.counts)  # which follow from the targets alone
    readouts, count = running.scenario.readouts, sum(evaluated.rows)
    counts = _joined(counts_by_batch)
    shown = _map(lambda metric, rows, of_rows: _mean(rows, of_rows).item(), _joined(intact), counts)
    ablation = Ablation(kind, split, links, evaluated.measure, count, readouts, shown)
    for name in names:
        pairs = _joined(changes[name])
        ablation.channels[name] = _map(Change.of, pairs, counts)
        ablation.readouts[name] = {
            metric: Change.of(
                metric, *(torch.stack([of[a][metric] for a in readouts]) for of in (pairs, counts))
            )
            for metric in evaluated.shared(readouts)
        }
    return ablation


def _mean(rows: Tensor, counts: Tensor) -> Tensor:
    """Return the means of rows [..., rows] that count as so many targets each, [...]; NaN: a row has no target."""
    return (rows * counts).nansum(-1) / counts.where(~rows.isnan(), 0.0).sum(-1)


def _map(function: Callable[..., T], scores: Scores, *others: Scores) -> dict[str, dict[str, T]]:
    """Return what a function makes of each metric's name and rows, and of the same rows of others."""
    return {
        a: {m: function(m, v, *(other[a][m] for other in others)) for m, v in metrics.items()}
        for a, metrics in scores.items()
    }


def _joined(batches: Sequence[Scores]) -> Scores:
    first = batches[0]
    return {a: {m: torch.cat([batch[a][m] for batch in batches]) for m in first[a]} for a in first}


# --- what messages are replaced by -------------------------------------------------------------------------


_Replaced = Callable[[int, Tensor, Mask], Tensor]
"""A function from a step, messages [rows, size] and the rows in which one is sent, to what replaces them."""


class _Replacement:
    """What the messages of a channel are replaced by; the base replaces them by zeros."""

    of_all_batches = False
    """Whether all batches are watched before a message of any is replaced."""

    def __init__(self, evaluated: _Evaluated) -> None:
        self.evaluated = evaluated

    def watch(self, batch: int) -> Deliver | None:
        """Return what sees, and returns, all messages while every channel is in place; None: nothing has to."""
        return None

    def without(self, channel: str, batch: int) -> Deliver:
        """Return what replaces the messages of a channel, and of no other."""
        replaced = self.of(channel, batch)

        def deliver(name: str, stamp: int, message: Tensor, sent: Mask) -> Tensor:
            return sent.zero_elsewhere(replaced(stamp, message, sent)) if name == channel else message

        return deliver

    def of(self, channel: str, batch: int) -> _Replaced:
        """Return what replaces messages, of any row."""
        return lambda stamp, message, sent: torch.zeros_like(message)


class _Resampled(_Replacement):
    """The messages of other rows, along one random cycle through all rows of the batch in which one is sent."""

    def __init__(self, evaluated: _Evaluated) -> None:
        super().__init__(evaluated)
        if max(evaluated.rows) < 2:
            raise ScenarioError("ablate: resample needs messages of another example; use 2 examples or more")

    def of(self, channel: str, batch: int) -> _Replaced:
        seed, rows = self.evaluated.seeds[batch], self.evaluated.rows[batch]
        cycle = uniform(seed_for(seed, "ablation"), 0, rows).argsort()

        def resampled(stamp: int, message: Tensor, sent: Mask) -> Tensor:
            order = cycle.to(message.device)
            order = order[sent.tensor(rows, message.device)[order]]
            partner = torch.arange(rows, device=message.device)
            partner[order] = order.roll(1)
            return message[partner]

        return resampled


class _Means(_Replacement):
    """Means of the messages of each channel, over all rows in which one is sent and, unless these are in step, all steps."""

    of_all_batches = True

    def __init__(self, evaluated: _Evaluated) -> None:
        super().__init__(evaluated)
        self._sums: dict[tuple[str, int], Tensor] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def watch(self, batch: int) -> Deliver:
        return self._add

    def _add(self, name: str, stamp: int, message: Tensor, sent: Mask) -> Tensor:
        key, total = self._key(name, stamp), message.sum(0)
        self._sums[key] = self._sums[key] + total if key in self._sums else total
        count = len(message) if sent is ALL else int(sent.tensor(len(message), message.device).sum())
        self._counts[key] = self._counts.get(key, 0) + count
        return message

    def of(self, channel: str, batch: int) -> _Replaced:
        def mean(stamp: int, message: Tensor, sent: Mask) -> Tensor:
            key = self._key(channel, stamp)
            return (self._sums[key] / max(self._counts[key], 1)).expand_as(message)

        return mean

    def _key(self, name: str, stamp: int) -> tuple[str, int]:
        return name, stamp if self.evaluated.in_step else 0


_REPLACEMENTS: dict[str, type[_Replacement]] = {
    "zero": _Replacement,
    "mean": _Means,
    "resample": _Resampled,
}
ABLATIONS = tuple(_REPLACEMENTS)
"""What messages are replaced by: zeros, their mean, or the message made for another example or in another environment."""
