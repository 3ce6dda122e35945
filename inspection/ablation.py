"""Ablation: what each agent loses without each channel, with common random numbers and intervals.

A channel's messages are replaced before they go out, one channel at a time; what the links lose and add stays the
same. Losses are compared example by example, returns episode by episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.problems import check_counts
from antiphon.base.progress import Progress
from antiphon.base.table import Result, Table
from antiphon.engine.inference.evaluation import (
    EPISODES,
    as_evaluated,
    check_episodes,
    environment_of,
    example_batches,
    play,
    policies,
    rewards_of,
    rollout_seed,
)
from antiphon.engine.inference.rollout import (
    Counts,
    Deliver,
    EnvironmentRollout,
    ExampleRollout,
    Links,
    Scores,
    with_targets,
)
from antiphon.engine.live_system import Holder, LiveSystem
from antiphon.inspection.truth import chosen_channels
from antiphon.nets.mask import Mask
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios.training import RETURN, less_is_better
from antiphon.telemetry.intervals import Worth, student_t, worth
from antiphon.telemetry.metrics import SCORES, Metric, bounds

_ROWS = 500
"""Examples at once, at most."""
_SHOWN = 20
"""Channels in a table."""
_PERFECT = Links()


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

        `pairs`: [pairs], or of several agents [agents, pairs], NaN without a target; `counts`: as how many targets each counts.
        """
        pairs = pairs.view(-1, pairs.shape[-1]).double()
        present = ~pairs.isnan()
        counts = present.double() if counts is None else counts.view_as(pairs).where(present, 0.0).double()
        agents, rows = present.any(1), present.any(0)
        least = int(present[agents].sum(1).min()) if bool(agents.any()) else 0
        pairs, counts = pairs[agents][:, rows].nan_to_num(), counts[agents][:, rows]
        shares = counts / counts.sum(1, keepdim=True)
        means = (shares * pairs).sum(1, keepdim=True)
        value = means.mean().item()
        if least < 2:
            return cls(value, None, metric)
        # the error of the mean of what each pair adds to it
        added = (pairs.shape[1] * shares * (pairs - means)).mean(0)
        return cls(value, student_t(least - 1) * added.std().item() / math.sqrt(len(added)), metric)

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


Changes = dict[str, dict[str, Change]]
"""By agent and metric."""


@dataclass(frozen=True, repr=False)
class Ablation(Result):
    """The change of each agent's scores without each channel.

    Attributes:
        kind: The replacement of the messages, one of `ABLATIONS`.
        measure: What channels are ranked by: `loss` over examples, or `return` over episodes where the readouts act.
        count: The number of examples or episodes.
        intact: With every channel in place, by agent with an objective: `loss` and its metric; or by agent that acts: `return`.
        channels: By channel and agent: by metric, the change without the channel.
        readouts: By channel: the changes of the readouts' means of the metrics that all have.
    """

    kind: str
    split: str
    links: Links
    measure: str
    count: int
    readout: tuple[str, ...]
    intact: dict[str, dict[str, float]]
    channels: dict[str, Changes] = field(default_factory=dict)
    readouts: Changes = field(default_factory=dict)

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
    def name(self) -> str:
        """The channels' metric, which names the kind."""
        return f"ablation_{self.kind}"

    def metrics(self) -> list[Metric]:
        """Return what the readouts lose as metrics of channels, each with the ends of its interval."""
        rows = []
        for channel in self.readouts:
            cost = self.change(channel).cost
            names = (self.name, *bounds(self.name))
            values = zip(names, (cost.value, *(cost.interval or ())), strict=False)
            rows += [Metric("channel", channel, metric, value) for metric, value in values]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the attributes, and `ranked`, the channels, most needed first."""
        return asdict(self) | {"ranked": self.ranked()}

    def table(self) -> Table:
        """Return the channels, most needed first, with the agent that each affects most beyond its interval."""
        names = self.ranked()
        metrics = [self.measure]
        metrics += [name for name in SCORES if name in self.readouts[names[0]] and name != self.measure]
        rows = []
        for name in names:
            agents = {agent: changes[self.measure] for agent, changes in self.channels[name].items()}
            resolved = [agent for agent, change in agents.items() if change.verdict != "unresolved"]
            affected = max(resolved, key=lambda agent: abs(agents[agent].value), default="–")
            changes = [str(self.readouts[name][metric]) for metric in metrics]
            rows.append([name, self.change(name).verdict, affected, *changes])
        title = (
            f"Without each channel ({self.kind}): change over {self.count:,} "
            f"{'episodes' if self.measure == RETURN else 'examples'} of {self.split}, {self.links.in_words}"
        )
        intact = (f"{sum(self.intact[a][m] for a in self.readout) / len(self.readout):.4g}" for m in metrics)
        whole = "With all: " + ", ".join(map(" ".join, zip(metrics, intact, strict=True)))
        heads = ["without", "the channel", "most affected", *metrics]
        return Table(heads, rows, 3, title, [f"{whole}. 95 % intervals."], most=_SHOWN, where="to_dict()")


def ablate(
    simulation: Holder,
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
    running = simulation.running
    running.synchronize()
    system = running.evaluated.single_system
    links = Links.given(links, system)
    if not system.channels:
        raise ScenarioError("ablate: the scenario has no channels; evaluate the run without")
    names = chosen_channels(list(system.channels), channels, "ablate: channel")
    if not names:
        raise ScenarioError("ablate: channels is empty; name one, or leave it out")
    if kind not in ABLATIONS:
        raise ScenarioError(f"ablate: no kind '{kind}'{suggest(kind, ABLATIONS)}")
    with as_evaluated(system):
        if readouts_act(running):
            if examples is not None:
                raise ScenarioError("examples: has no effect where the readouts act; use episodes")
            samples = _episodes(running, split, links, episodes, sampled=sampled)
        else:
            if episodes is not None or sampled:
                name = "sampled" if episodes is None else "episodes"
                raise ScenarioError(f"{name}: has no effect on the loss of examples; leave it out")
            samples = _examples(running, split, links, examples)
        return _ablated(running, kind, split, links, names, samples)


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


@dataclass(frozen=True)
class _Samples:
    """Batches of examples or episodes, each evaluated with the same random numbers as often as it is asked for.

    Attributes:
        seeds: Of each batch.
        rows: In each batch.
        of_batch: Returns the scores of a batch, and as how many targets its rows count.
    """

    measure: str
    seeds: list[int]
    rows: list[int]
    of_batch: Callable[[int, Deliver | None], tuple[Scores, Counts]]

    def scores(self, progress: Progress, kind: str = "", without: str | None = None) -> tuple[Scores, Counts]:
        """Return the scores of all rows, with the messages of a channel replaced."""
        found = []
        for batch, rows in enumerate(self.rows):

            def deliver(name: str, stamp: int, message: Tensor, sent: Mask, batch: int = batch) -> Tensor:
                if name != without:
                    return message
                return sent.zero_elsewhere(_REPLACEMENTS[kind](message, sent, self.seeds[batch]))

            found.append(self.of_batch(batch, None if without is None else deliver))
            progress.advance(rows)
        scores, counts = zip(*found, strict=True)
        return _joined(scores), _joined(counts)


def _examples(running: LiveSystem, split: str, links: Links, count: int | None) -> _Samples:
    check_counts("ablate", examples=count)
    stacks, ends = running.evaluated.system, with_targets(running.evaluated.system)
    batches = list(example_batches(running.world.env, split, count, _ROWS))
    seeds = [rollout_seed(running.seed, split, number) for number in range(len(batches))]

    def of_batch(batch: int, deliver: Deliver | None) -> tuple[Scores, Counts]:
        return ExampleRollout(
            stacks, batches[batch], links, seed=seeds[batch], ends=ends, deliver=deliver
        ).scores()

    return _Samples("loss", seeds, [len(next(iter(batch.values()))) for batch in batches], of_batch)


def _episodes(
    running: LiveSystem, split: str, links: Links, episodes: int | None, *, sampled: bool
) -> _Samples:
    """The first episode of each of an environment's copies, from as many seeds as episodes are wanted of each."""
    check_episodes(running.env, split, episodes)
    copies = running.env.num_envs
    count = -(-EPISODES // copies) if episodes is None else episodes
    stacks, rewards = running.evaluated.system, rewards_of(running.evaluated.single_system)
    seeds = [rollout_seed(running.seed, split, number) for number in range(count)]

    def of_batch(batch: int, deliver: Deliver | None) -> tuple[Scores, Counts]:
        with closing(environment_of(running, copies, split if running.env.splits else None)) as env:
            rollout = EnvironmentRollout(stacks, env, links, seeds[batch], sampled=sampled, deliver=deliver)
            returns = play(rollout, 1).returns
        scores = {name: {RETURN: returns[reward][0].cpu()} for name, reward in rewards.items()}
        return scores, {name: {RETURN: torch.ones_like(of[RETURN])} for name, of in scores.items()}

    return _Samples(RETURN, seeds, [copies] * count, of_batch)


def _ablated(
    running: LiveSystem, kind: str, split: str, links: Links, names: Sequence[str], samples: _Samples
) -> Ablation:
    """Evaluate all batches with every channel in place, then without each of some."""
    if kind == "resample" and max(samples.rows) < 2:
        several = "use 2 examples or more, or training.batch: 2 or more"
        raise ScenarioError(f"ablate: resample needs messages of another example or environment; {several}")
    readouts = running.scenario.readouts
    with Progress("ablating", (1 + len(names)) * sum(samples.rows)) as progress:
        intact, counts = samples.scores(progress)
        metrics = [m for m in intact[readouts[0]] if all(m in intact[name] for name in readouts)]
        means = {
            agent: {metric: _mean(rows, counts[agent][metric]).item() for metric, rows in scores.items()}
            for agent, scores in intact.items()
        }
        ablation = Ablation(kind, split, links, samples.measure, sum(samples.rows), readouts, means)
        for name in names:
            without, _ = samples.scores(progress, kind, name)
            pairs = {a: {m: without[a][m] - rows for m, rows in intact[a].items()} for a in intact}
            ablation.channels[name] = {
                a: {m: Change.of(m, rows, counts[a][m]) for m, rows in pairs[a].items()} for a in pairs
            }
            ablation.readouts[name] = {
                m: Change.of(m, *(torch.stack([of[a][m] for a in readouts]) for of in (pairs, counts)))
                for m in metrics
            }
    return ablation


def _mean(rows: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of rows [rows] that count as so many targets each; NaN: a row has no target."""
    return (rows * counts).nansum() / counts.where(~rows.isnan(), 0.0).sum()


def _joined(batches: Sequence[Scores]) -> Scores:
    first = batches[0]
    return {a: {m: torch.cat([batch[a][m] for batch in batches]) for m in first[a]} for a in first}


# --- what messages are replaced by -------------------------------------------------------------------------


def _zeros(message: Tensor, sent: Mask, seed: int) -> Tensor:
    return torch.zeros_like(message)


def _of_other_rows(message: Tensor, sent: Mask, seed: int) -> Tensor:
    """The messages of other rows, along one random cycle through all rows of the batch in which one is sent."""
    rows, device = len(message), message.device
    order = uniform(seed_for(seed, "ablation"), 0, rows).argsort().to(device)
    order = order[sent.tensor(rows, device)[order]]
    partner = torch.arange(rows, device=device)
    partner[order] = order.roll(1)
    return message[partner]


_REPLACEMENTS = {"zero": _zeros, "resample": _of_other_rows}
ABLATIONS = tuple(_REPLACEMENTS)
"""What messages are replaced by: zeros, or the message made for another example or in another environment."""
