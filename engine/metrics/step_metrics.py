"""Metrics of a step, by agent and channel, as plain numbers for recorders.

Stacks are measured as a whole, so that looking costs little. Shapes: n members of a stack (1 of a lone agent or channel),
B environments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.comms.gradient_alignment import alignment
from antiphon.comms.predictors import newest_example
from antiphon.comms.symbols import SymbolSampler
from antiphon.engine.backends import StackedBackend
from antiphon.engine.environment import EnvironmentRunner
from antiphon.engine.episodes import own_reward
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.layout import name_in_seed
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate, StepReport
from antiphon.engine.metrics.newest import NewestMetrics
from antiphon.engine.metrics.report_by_agent import AgentReport
from antiphon.engine.stacked import Stacked
from antiphon.nets.mask import ALL, Mask, Members
from antiphon.scenarios import Scenario
from antiphon.scenarios.training import RETURN
from antiphon.telemetry.metrics import Kind, Metric, SampleRow

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem

_MOST = 128
"""Messages of a channel in a sample."""
_NUMBERS = 8192
"""Numbers of a channel in a sample: where messages are long, there are fewer of them."""
LARGEST = 256
"""Components of a sampled message; longer ones are left out."""


class Computed(Protocol):
    """A running scenario, or a part of one: what has taken a step."""

    scenario: Scenario
    learned: AgentReport
    newest: NewestMetrics

    @property
    def world(self) -> EnvironmentRunner:
        """Its environment."""

    @property
    def backend(self) -> StackedBackend:
        """What has computed it."""


class Row(NamedTuple):
    """What is recorded of a step: of a whole simulation, or of a part."""

    metrics: list[Metric]
    """Metrics of agents and channels, but for means of losses."""
    samples: list[SampleRow]
    env: dict[str, float]
    returns: dict[str, float]
    """Returns of policies by agent (`returns_of`)."""

    @classmethod
    def of(cls, computed: Computed, step: int, *, sampled: bool) -> Self:
        """Return that of the step just taken."""
        newest = computed.newest
        return cls(
            newest.completed(step_metrics(computed, step)),
            samples(computed.backend.stacked, computed.scenario) if sampled else [],
            computed.world.metrics(),
            returns_of(computed),
        )


def returns_of(computed: Computed) -> dict[str, float]:
    """Return the mean undiscounted return in training by policy, of its own reward (`EpisodeStatistics.mean`)."""
    episodes = computed.world.episodes
    return_by_agent: dict[str, float] = {}
    for name, agent in computed.backend.stacked.single_system.agents.items():
        if episodes is not None and agent.goal is not None and agent.goal.policy is not None:
            rewards = () if agent.goal.rewards is None else agent.goal.rewards.names
            if (mean := episodes.mean(own_reward(rewards))) is not None:
                return_by_agent[name] = mean
    return return_by_agent


def training_means(running: LiveSystem) -> dict[str, dict[str, float]]:
    """Return loss and metrics in training by agent: since the newest log entry, or else of that entry; returns are the newest."""
    return _with_returns(
        running, running.train_means.row() | running.train_means.means(), returns_of(running)
    )


def _with_returns(
    running: LiveSystem, means: Mapping[str, Mapping[str, float]], returns: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return means by agent with the returns of policies, also of those whose window has not ended since: episodes may have."""
    return {
        name: {**({RETURN: returns[name]} if name in returns else {}), **means.get(name, {})}
        for name in running.scenario.agents
        if name in returns or name in means
    }


def keep_metrics(computed: Computed, step: int, watched: AbstractSet[str]) -> None:
    """Keep the metrics of the watched that learned at a step, or whose message is due, for the next log entry."""
    report, stacked = computed.learned.stacks, computed.backend.stacked
    system = stacked.system
    parts = [
        system.channels[name].member_names for name in (*report.predictor_updates, *report.input_updates)
    ]
    for update in report.updates:
        for name in update.gradients_by_learner:
            parts += [agent.member_names for agent in system.agents_by_learner[name]]
        parts += [system.channels[name].member_names for name in update.newest_injected_by_channel]
    for channel in system.channels.values():
        timetable = channel.wire.timetable
        due = timetable.newest_due(step)
        if due is not None and timetable.arrival_of(due) == step:
            parts.append(channel.member_names)
    names = watched & {name for member_names in parts for _, name in stacked.own_names(member_names)}
    if names:
        computed.newest.add(step_metrics(computed, step, names=names))


def entry_metrics(running: LiveSystem, row: Row) -> list[Metric]:
    """Return the metrics of a log entry, of agents, channels and the environment, once the row of its means is complete."""
    means = _with_returns(running, running.train_means.row(), row.returns)
    env = [Metric("env", "", name, value) for name, value in (_progress(running) | row.env).items()]
    return [*score_metrics(means), *row.metrics, *env]


def score_metrics(scores: Mapping[str, Mapping[str, float]], prefix: str = "") -> list[Metric]:
    """Return scores by agent and name as metrics of agents, whose names begin with a prefix."""
    return [
        Metric("agent", name, f"{prefix}{metric}", value)
        for name, value_by_metric in scores.items()
        for metric, value in value_by_metric.items()
    ]


def _progress(running: LiveSystem) -> dict[str, float]:
    return {} if running.epoch is None else {"epoch": running.epoch}


def environment_metrics(running: LiveSystem) -> dict[str, float]:
    """Return metrics of progress by name: the epoch, where there are any, and those of the environment."""
    return _progress(running) | running.world.metrics()


@torch.no_grad()
def step_metrics(
    computed: Computed,
    step: int,
    names: Collection[str] | None = None,
) -> list[Metric]:
    """Return the metrics of one step.

    Per agent: `updates`, `learning_rate`, `parameter_norm`,
    `gradient_norm`. Per channel: `sg_loss`, alignment with what came back (`cosine`, `norm_ratio`, `r2`, …),
    `returned_norm`, `injection_norm`, `message_mean`, `message_std`, `message_energy` (root of the mean square), of symbols
    `symbol_entropy` (bits, mean over positions, of the newest message's symbols over environments), where there is a gate its `skill` and `gate`, `age` (steps since the newest
    message was sent that is due), `traffic` (bits a step and environment), with a synthetic input `si_loss`.

    Args:
        computed: Just after `step`.
        names: The agents and channels that are measured; None: all.
    """
    stacked, learned = computed.backend.stacked, computed.learned.stacks
    system, of, in_seed = stacked.system, None, None
    if names is not None:
        of = frozenset(names)
        in_seed = frozenset(name_in_seed(name, stacked.seed, system.seed_count) for name in of)
    agents = _rows("agent", computed.scenario.agents, of_agents(system, learned, step, in_seed), stacked, of)
    channels = _rows(
        "channel", stacked.single_system.channels, of_channels(system, learned, step, in_seed), stacked, of
    )
    return [*agents, *channels]


class StackMetric(NamedTuple):
    """One metric of the members of a stack."""

    names: tuple[str, ...]
    metric: str
    values: Sequence[float]
    present: Sequence[bool] | None = None
    """Which members have it, [n]; None: all."""


def _rows(
    kind: Kind,
    names: Iterable[str],
    measured: Iterable[StackMetric],
    stacked: Stacked,
    of: Collection[str] | None,
) -> list[Metric]:
    """Return the metrics of one agent or channel after the other; `of`: whose, None: of all.

    Of several measurements of a metric, as of late windows of which an agent learns at one step, the newest counts.
    """
    metrics_by_name: dict[str, dict[str, Metric]] = {name: {} for name in names}
    for members, metric, values, present in measured:
        for place, name in stacked.own_names(members):
            if (present is None or present[place]) and (of is None or name in of):
                metrics_by_name[name][metric] = Metric(kind, name, metric, float(values[place]))
    return [row for rows in metrics_by_name.values() for row in rows.values()]


# --- agents ------------------------------------------------------------------------------------------------


def of_agents(
    system: System, learned: StepReport, step: int, of: Collection[str] | None = None
) -> Iterator[StackMetric]:
    """Yield `gradient_norm` (of those that learned), `updates`, `learning_rate`, `parameter_norm`.

    `of`: of the stacks with any of these members; None: of all.
    """
    for update in learned.updates:
        for name, gradients in update.gradients_by_learner.items():
            present_gradients = [g for g in gradients if g is not None]
            tied = [
                agent for agent in system.agents_by_learner[name] if _any(agent.member_names, of)
            ]  # often one alone
            if present_gradients and tied:
                norms = _norms(present_gradients, tied[0])
                present = _list(update.moving(name), len(norms))
                for agent in tied:
                    yield StackMetric(agent.member_names, "gradient_norm", norms, present)
    for agent in system.agents.values():
        if not _any(agent.member_names, of):
            continue
        yield StackMetric(agent.member_names, "updates", agent.learner.counts())
        if agent.learner.trainable:
            rate, count = agent.learner.rate(step), len(agent.member_names)
            rates = rate.tolist() if isinstance(rate, Tensor) else [rate] * count
            yield StackMetric(agent.member_names, "learning_rate", rates)
        if parameters := list(agent.learner.parameters.values()):
            yield StackMetric(agent.member_names, "parameter_norm", _norms(parameters, agent))


def _any(names: Iterable[str], of: Collection[str] | None) -> bool:
    """Whether any of a stack's members is among those that are measured."""
    return of is None or any(name in of for name in names)


def _norms(tensors: Sequence[Tensor], agent: Agent) -> list[float]:
    """Return the norm over all tensors of each member, to the same bits in a stack and alone."""
    total = torch.zeros(len(agent.member_names), dtype=tensors[0].real.dtype, device=tensors[0].device)
    for tensor in tensors:
        total += torch.linalg.vector_norm(tensor.reshape(len(total), -1), dim=1).square()
    return total.sqrt().tolist()


# --- channels ----------------------------------------------------------------------------------------------


def of_channels(
    system: System, learned: StepReport, step: int, of: Collection[str] | None = None
) -> Iterator[StackMetric]:
    """Yield the metrics of channels that `step_metrics` lists; `learned` is of the same stacks as `system`; `of`: see `of_agents`."""
    injected_by_channel = {
        name: injected
        for update in learned.updates
        for name, injected in update.newest_injected_by_channel.items()
    }
    for name, channel in system.channels.items():
        names, count = channel.member_names, len(channel.member_names)
        if not _any(names, of):
            continue
        if name in learned.predictor_updates:
            yield from _trained(names, learned.predictor_updates[name])
        if (injected := injected_by_channel.get(name)) is not None:
            norms = injected.gradient.norm(dim=1).view(count, -1)
            members = channel.layout.members_in(injected.rows)
            yield StackMetric(
                names,
                "injection_norm",
                _mean_where(injected.rows, norms).tolist(),
                _list(members, count),
            )
        yield from _of_newest(channel)
        predictor = channel.synthetic_gradient.model
        if predictor is not None and predictor.gated and channel.sender in system.agents:  # it learns there
            yield StackMetric(names, "skill", predictor.skill.tolist())
            yield StackMetric(names, "gate", predictor.factors.tolist())
        newest_due = channel.wire.timetable.newest_due(step)
        if newest_due is not None:
            yield StackMetric(names, "age", [float(step - newest_due)] * count)
        if not channel.carries_state:  # which stays where it is
            yield StackMetric(names, "traffic", _traffic(system, channel))
        if (trained := learned.input_updates.get(name)) is not None:
            losses = trained.loss.reshape(-1).tolist()
            yield StackMetric(names, "si_loss", losses, _list(trained.moving_members, count))


def _of_newest(channel: Channel) -> Iterator[StackMetric]:
    """Yield `message_mean`, `message_std`, `message_energy` and `symbol_entropy` of the newest message, where it is measured."""
    if (message := _newest(channel)) is None:
        return
    names, sent = channel.member_names, channel.measured_rows(message)
    count = len(names)
    present = _list(channel.layout.members_in(sent), count)
    values = sent.zero_elsewhere(message.value).reshape(count, channel.batch, -1)
    mean = _mean_where(sent, values)
    squares = (values - mean.view(-1, 1, 1)).square()
    std = values.flatten(1).std(1, correction=0) if sent is ALL else _mean_where(sent, squares).sqrt()
    yield StackMetric(names, "message_mean", mean.tolist(), present)
    yield StackMetric(names, "message_std", std.tolist(), present)
    yield StackMetric(names, "message_energy", (mean.square() + std.square()).sqrt().tolist(), present)
    if isinstance(sampler := channel.content.sampler, SymbolSampler):
        shares = values.view(count, -1, sampler.size, sampler.vocabulary).mean(1)
        if sent is not ALL:
            shares = shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
        entropies = torch.special.entr(shares).sum(-1).mean(1) / math.log(2)
        yield StackMetric(names, "symbol_entropy", entropies.tolist(), present)


def _newest(channel: Channel) -> Sent | None:
    """Return the newest message of a stack of channels; None: it has none."""
    sent = channel.wire.outbox.sent
    return sent[max(sent)] if sent else None


def _mean_where(rows: Mask, values: Tensor) -> Tensor:
    """Return the means of values [n, B, …] over the environments where `rows` holds, [n]; NaN where it holds in none."""
    if rows is ALL:
        return values.flatten(1).mean(1)
    counted = rows.tensor(values.shape[:2].numel(), values.device)
    counted = counted.view(*values.shape[:2], *[1] * (values.dim() - 2)).expand_as(values)
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1)


def _trained(names: tuple[str, ...], update: PredictorUpdate) -> Iterator[StackMetric]:
    present = _list(update.moving_members, len(names))
    yield StackMetric(names, "sg_loss", update.loss.reshape(-1).tolist(), present)
    newest = newest_example(update.examples)
    if newest.returned is None or update.prediction is None:
        return
    present = _list(update.moving_members & newest.member_mask, len(names))
    prediction = update.prediction.view(len(names), -1, update.prediction.shape[1])
    valid = newest.valid.tensor(len(newest.returned), newest.returned.device).view(len(names), -1)
    returned = newest.returned.view_as(prediction)
    yield StackMetric(
        names, "returned_norm", _mean_where(newest.valid, returned.norm(dim=2)).tolist(), present
    )
    for metric, values in alignment(prediction, returned, valid).items():
        yield StackMetric(names, metric, values.tolist(), present)


def _list(members: Mask[Members], count: int) -> list[bool] | None:
    return None if members is ALL else members.tensor(count, "cpu").tolist()


def _traffic(system: System, channel: Channel) -> list[float]:
    """What the link carries, in bits a step and environment, the context of the receiver included."""
    wire, link = channel.wire, channel.wire.link
    bits = torch.finfo(channel.content.zeros.dtype).bits
    content: float = channel.content.size * (link.bits or bits)
    if isinstance(channel.content.sampler, SymbolSampler):
        content = channel.content.sampler.size * math.log2(channel.content.sampler.vocabulary)
    sending = content * (1 / wire.timetable.sender_clock.tick_period)
    back = 0.0
    if channel.synthetic_gradient.context.crossing is not None:
        # The receiver's state crosses the link in full precision at each of its ticks (semantics 25). Phases follow
        # from the clocks, and what is returned has come back with the gradients.
        size = system.agents[channel.receiver].learner.network.state_size
        back = size * bits / wire.timetable.receiver_clock.tick_period
    return [sending * share + back for share in _sent_shares(channel)]


def _sent_shares(channel: Channel) -> list[float]:
    """Return the share of environments in which the newest message of each channel was sent: all, without a mask or lives."""
    count, newest = len(channel.member_names), _newest(channel)
    if newest is None:
        return [1.0] * count
    shares: list[float] = (
        newest.sent_rows.tensor(channel.row_count, "cpu").view(count, -1).double().mean(1).tolist()
    )
    return shares


# --- messages ------------------------------------------------------------------------------------------------


def samples(stacked: Stacked, scenario: Scenario) -> list[SampleRow]:
    """Return the newest messages, [samples, size + 1], of at most `telemetry.max` channels; the label is last.

    Those to readouts come first, then the others, in canonical order. The label of a message is the class that the first
    readout with labels should name for the example that the message was made from; nan where there is none.
    """
    goals = [goal for name in scenario.readouts for goal in scenario.agents[name].objectives.values()]
    target = next((goal.target for goal in goals if goal.labels), None)
    channels = sorted(scenario.channels, key=lambda channel: channel.receiver not in scenario.readouts)
    held = {
        name: (channel, place)
        for channel in stacked.system.channels.values()
        for place, name in stacked.own_names(channel.member_names)
    }
    shown_names = [channel.name for channel in channels][: scenario.telemetry.max]
    message_rows = ((name, _messages(*held[name], target)) for name in shown_names if name in held)
    return [(name, rows) for name, rows in message_rows if rows is not None]


def _messages(channel: Channel, index: int, target: str | None) -> np.ndarray[Any, Any] | None:
    """Return the newest messages of the channel at a place of a stack, with their labels."""
    message, of_member = _newest(channel), channel.layout.rows_of_member(index)
    if message is None:
        return None
    values = message.value[of_member]
    if values.shape[1] > LARGEST:
        return None
    labels = torch.full((len(values),), torch.nan)
    label = None if target is None else message.signals.signals.get(target)
    if target and label is not None and label.shape == labels.shape and not label.is_floating_point():
        present = message.signals.present(target).tensor(len(label), label.device)
        labels = label.float().where(present & (label >= 0), torch.nan)
    sent = channel.measured_rows(message).tensor(channel.row_count, values.device)[of_member]
    rows = torch.cat([values.float().cpu(), labels.float().cpu().unsqueeze(1)], 1)[sent.cpu()]
    most = min(_MOST, _NUMBERS // (values.shape[1] + 1))
    array: np.ndarray[Any, Any] = constant(rows[:most]).numpy()
    return array if len(array) else None
