"""The language of channels that carry symbols: their entropy, their information, and how observations show in them.

    entropy                   bits of a symbol and of a whole message
    information               mutual information of messages and a label, in bits
    topographic similarity    rank correlation of distances between observations and between messages (Brighton and Kirby
                              2006); cosine and edit distance, as EGG computes it (Kharitonov et al. 2019, 1907.00852)

What messages do for their receivers, `ablation.py` measures.

Entropies are computed from observed frequencies. With n samples of k values they are too small by about
(k - 1) / (2 n ln 2) bits, and the information is too large by as much (Miller 1955): measure many more messages than there
are different ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import check_counts
from antiphon.base.table import Result, Table, decimal
from antiphon.comms.symbols import SymbolSampler
from antiphon.engine.environment import signals_read
from antiphon.engine.heart.agent import AGE
from antiphon.engine.heart.forward import as_input
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import Tick
from antiphon.engine.inference.evaluation import LONGEST, environment_of, example_batches, rollout_seed
from antiphon.engine.inference.rollout import EnvironmentRollout, Links, Rollout, filled, steps_needed
from antiphon.engine.live_system import Holder, LiveSystem
from antiphon.inspection.truth import chosen_channels
from antiphon.nets.mask import ALL, Mask
from antiphon.nets.random import seed_for, uniform
from antiphon.telemetry.metrics import Metric

_EXAMPLES = 1000
_ENVS = 64
"""Environments side by side, where there are no examples."""
_PAIRED = 400
"""Messages of which all pairs are compared, at most."""
_SHUFFLED = 10
"""Orders of the labels by which the information that frequencies show by chance is estimated."""
_POSITIONS = 4
"""Positions of a message whose entropies a table shows."""
_SHOWN = 20
"""Channels in a table."""


# --- measures of symbols -----------------------------------------------------------------------------------


def entropy(values: Tensor) -> float:
    """Return the entropy in bits of the observed frequencies of whole numbers [n], or of rows of them [n, length]."""
    _, counts = torch.unique(values, dim=0, return_counts=True)
    return max(0.0, float(torch.special.entr(counts.double() / len(values)).sum()) / math.log(2))


def mutual_information(values: Tensor, labels: Tensor) -> float:
    """Return the mutual information of two variables' observed frequencies in bits: H(a) + H(b) - H(a, b)."""
    pairs = torch.cat([values.reshape(len(values), -1), labels.reshape(len(labels), -1)], 1)
    return max(0.0, entropy(values) + entropy(labels) - entropy(pairs))


def information_share(values: Tensor, labels: Tensor) -> float:
    """Return how much of a label [n] values tell: 0 as by chance, of shuffled labels, and 1 as the label itself."""
    orders = [uniform(seed_for(0, "shuffled", str(k)), 0, len(labels)).argsort() for k in range(_SHUFFLED)]
    shuffled = [mutual_information(values, labels[order.to(labels.device)]) for order in orders]
    chance = sum(shuffled) / len(shuffled)
    bits, most = mutual_information(values, labels) - chance, entropy(labels) - chance
    return min(max(0.0, bits / most), 1.0) if most > 1e-9 else 0.0  # entropies are rounded


def spearman(a: Tensor, b: Tensor) -> float:
    """Return Spearman's rank correlation of [n] and [n], equal values having their mean rank; NaN where all are equal."""
    return float(torch.corrcoef(torch.stack([_ranks(a), _ranks(b)]))[0, 1])


def _ranks(values: Tensor) -> Tensor:
    _, rank_index, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts + 1) / 2)[rank_index]
    return ranks


def edit_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Levenshtein distance of each pair of messages of symbols, [pairs, length] and [pairs, other length]; int64 [pairs]."""
    distances = torch.arange(b.shape[1] + 1, device=a.device).expand(len(a), -1)
    for i in range(a.shape[1]):
        following = [distances[:, 0] + 1]
        for j in range(b.shape[1]):
            changed = distances[:, j] + (a[:, i] != b[:, j]).long()
            shifted = torch.minimum(distances[:, j + 1], following[j]) + 1
            following.append(torch.minimum(changed, shifted))
        distances = torch.stack(following, 1)
    return distances[:, -1]


def topographic_similarity(observations: Tensor, symbols: Tensor) -> float:
    """Return the rank correlation of cosine distances of observations [n, features] and edit distances of messages [n, length].

    NaN where all messages or all observations are equally far from each other. An observation of zeros is at distance 1.
    """
    first, second = torch.triu_indices(len(symbols), len(symbols), 1, device=symbols.device)
    directions = torch.nn.functional.normalize(observations.double(), dim=1)
    cosines = 1 - (directions @ directions.T)[first, second]
    # What differs by rounding alone is a tie: rank correlation would order it.
    return spearman((cosines * 1e9).round(), edit_distances(symbols[first], symbols[second]))


# --- of a system -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Language:
    """The information in a channel of symbols.

    Attributes:
        entropy: Bits of the symbol at each position.
        message_entropy: Bits of whole messages.
        information: By signal with one class per environment: its mutual information with messages, in bits.
        topographic_similarity: Similarity of messages and the sender's observations; None: it observes nothing, or always
            sends the same message.
        information_share: By signal: 0 where messages tell as much of it as by chance, 1 where they tell all of it.
    """

    messages: int
    different: int
    entropy: tuple[float, ...]
    message_entropy: float
    information: dict[str, float]
    topographic_similarity: float | None
    information_share: dict[str, float]


class Languages(Result, dict[str, Language]):
    """The languages of channels, by channel."""

    name = "language"

    def __init__(self, split: str, languages: Mapping[str, Language]) -> None:
        super().__init__(languages)
        self.split = split

    def metrics(self) -> list[Metric]:
        """Return the measures of whole channels as metrics."""
        names = ("message_entropy", "topographic_similarity")
        values = ((channel, name, getattr(of, name)) for channel, of in self.items() for name in names)
        return [
            Metric("channel", channel, name, value) for channel, name, value in values if value is not None
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the split, and the attributes of each language by channel."""
        return {"split": self.split, "channels": {channel: asdict(of) for channel, of in self.items()}}

    def table(self) -> Table:
        """Return the measures of each channel; information has its share behind it."""
        labels = list(dict.fromkeys(label for of in self.values() for label in of.information))
        rows = []
        for channel, of in self.items():
            bits = " ".join(decimal(bits, 2) for bits in of.entropy[:_POSITIONS])
            about = [
                f"{of.information[label]:.2f} ({of.information_share[label]:.2f})"
                if label in of.information
                else "–"
                for label in labels
            ]
            more = "" if len(of.entropy) <= _POSITIONS else " …"
            counts = f"{of.messages:,}", f"{of.different:,}"
            rows.append(
                [
                    channel,
                    *counts,
                    bits + more,
                    decimal(of.message_entropy, 2),
                    *about,
                    decimal(of.topographic_similarity, 2),
                ]
            )
        heads = ["channel", "messages", "different", "symbol entropy", "message entropy"]
        heads += [*(f"about {label}" for label in labels), "topographic"]
        title = "Entropies and information in bits (share: 0 as by chance, 1 as the signal itself)"
        return Table(heads, rows, 1, title, most=_SHOWN, where="to_dict()")


@dataclass
class _Sample:
    """Messages of one channel, a tensor [rows, …] for each tick."""

    symbols: list[Tensor] = field(default_factory=list)
    observations: list[Tensor] = field(default_factory=list)
    labels: dict[str, list[Tensor]] = field(default_factory=dict)


def language(
    simulation: Holder,
    *,
    split: str = "test",
    channels: Sequence[str] | None = None,
    examples: int = _EXAMPLES,
) -> Languages:
    """Measure the languages of channels that carry symbols, over perfect links, with the most probable symbols.

    In a stream of examples, the newest message about each example is measured; else the messages of all ticks in new
    environments, of whole episodes. The padding of sequences is no message.

    Args:
        simulation: The simulation to measure; no bit of it changes.
        split: The part of the data, if the environment has splits.
        channels: The channels; None: all that carry symbols.
        examples: The approximate number of messages per channel.

    Raises:
        ScenarioError: No such channel, or none that carries symbols, or `examples` is below 1.
    """
    check_counts("language", needed=True, examples=examples)
    running = simulation.running
    running.synchronize()
    system = running.system
    names, signals = (
        chosen_channels(spoken(system), channels, "language: channel of symbols"),
        system.description.signals,
    )
    labels = [name for name, spec in signals.items() if spec.classes is not None and not spec.shape]
    samples = {name: _Sample() for name in names}
    for rollout, ticks, whole in _ticks(running, split, examples, {*signals_read(system), *labels}):
        for tick in ticks:
            counted = whole & tick.observed_signals.shown
            for channel in rollout.system.agents[tick.agent_name].connections.outgoing:
                if channel.name in samples and channel.name in tick.sampled_messages:
                    _add(samples[channel.name], rollout.system, channel.name, tick, labels, counted)
    return Languages(split, {name: _measured(sample) for name, sample in samples.items()})


def spoken(system: System) -> list[str]:
    """Return the names of the channels that carry symbols; ScenarioError where there is none."""
    names = [
        name
        for name, channel in system.channels.items()
        if isinstance(channel.content.sampler, SymbolSampler)
    ]
    if not names:
        raise ScenarioError(
            "language: no channel carries symbols; give one `sample: {kind: gumbel, vocabulary: …}`"
        )
    return names


@torch.no_grad()
def _ticks(
    running: LiveSystem, split: str, examples: int, names: set[str]
) -> Iterator[tuple[Rollout, list[Tick], Mask]]:
    """Yield rollouts with the ticks to be measured and the environments that count, until there are so many messages."""
    system, links, env = running.system, Links(), running.world.env
    if env.is_stream:
        before = env.requested
        env.request({*before, *names})
        try:
            batches = list(example_batches(env, split, examples))
        finally:
            env.request(before)
        for number, batch in enumerate(batches):
            rows = len(next(iter(batch.values())))
            rollout = Rollout(system, rows, links, rollout_seed(running.seed, split, number))
            newest: dict[str, Tick] = {}
            shown = StepSignals(0, batch)
            for step in range(steps_needed(system)):
                newest |= {tick.agent_name: tick for tick in rollout.tick(step, shown)}
            yield rollout, list(newest.values()), ALL
        return
    rows = min(_ENVS, examples)
    seed, part_of = rollout_seed(running.seed, split, 0), split if split in env.splits else None
    with closing(environment_of(running, rows, part_of)) as sampled_env:
        forward, full = EnvironmentRollout(system, sampled_env, links, seed, signals=names), filled(system)
        periods = [agent.clock.tick_period for agent in system.agents.values()]
        enough, counted = max(full.values()) + max(periods) * -(-examples // rows), ALL
        for step in range(enough + LONGEST):
            ticks = forward.step()
            yield forward.rollout, [tick for tick in ticks if step >= full[tick.agent_name]], counted
            if step + 1 >= enough:  # the present episodes are measured to their ends
                counted &= ~forward.ends.ended
            if step + 1 >= enough and (sampled_env.endless or not counted.anywhere):
                return


def _add(
    sample: _Sample, system: System, name: str, tick: Tick, labels: Sequence[str], counted: Mask
) -> None:
    agent, channel = system.agents[tick.agent_name], system.channels[name]
    sampler = channel.content.sampler
    assert isinstance(sampler, SymbolSampler)
    shape = (-1, sampler.size, sampler.vocabulary)
    sent = channel.wire.outbox.sent[tick.step].sent_rows & counted
    rows = (
        slice(None)
        if sent is ALL
        else sent.tensor(len(tick.sampled_messages[name]), system.device).nonzero()[:, 0]
    )
    sample.symbols.append(tick.sampled_messages[name].view(shape)[rows].argmax(-1))
    signals = tick.observed_signals.signals
    observed = [
        as_input(system, signal_name, signals[signal_name])
        .reshape(len(tick.sampled_messages[name]), -1)[rows]
        .to(system.dtype)
        for signal_name in agent.inputs.observed.signal_names
        if signal_name != AGE and signal_name in signals
    ]
    if observed:
        sample.observations.append(torch.cat(observed, 1))
    for label in labels:
        if label in signals:
            labelled = signals.get(f"_{label}", torch.ones_like(signals[label], dtype=torch.bool))
            sample.labels.setdefault(label, []).append(
                signals[label].long().where(labelled.flatten(), -1)[rows]
            )


def _measured(sample: _Sample) -> Language:
    symbols = torch.cat(sample.symbols)
    similarity = None
    if sample.observations:
        count = len(symbols)
        chosen = torch.arange(min(_PAIRED, count), device=symbols.device) * count // min(_PAIRED, count)
        similarity = topographic_similarity(torch.cat(sample.observations)[chosen], symbols[chosen])
    information, shares = dict[str, float](), dict[str, float]()
    for label, batches in sample.labels.items():
        values = torch.cat(batches)
        labelled = values >= 0
        if bool(labelled.any()):
            information[label] = mutual_information(symbols[labelled], values[labelled])
            shares[label] = information_share(symbols[labelled], values[labelled])
    return Language(
        messages=len(symbols),
        different=len(torch.unique(symbols, dim=0)),
        entropy=tuple(entropy(symbols[:, i]) for i in range(symbols.shape[1])),
        message_entropy=entropy(symbols),
        information=information,
        topographic_similarity=None if similarity is None or math.isnan(similarity) else similarity,
        information_share=shares,
    )
