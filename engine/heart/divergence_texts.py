"""Reports of divergences: what a user reads of one, with how it may be mended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from antiphon.comms.model import Model
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.window import LearningGroup


class Reason(Enum):
    """What of an agent is not finite."""

    LOSS_NOT_FINITE = "loss"
    NOT_FINITE = "gradient"


@dataclass(frozen=True)
class Report:
    """A report of a divergence.

    Attributes:
        seed: The seed of the agents, among several.
    """

    step: int
    line: str
    seed: int = 0


def group_report(
    group: LearningGroup,
    reason: Reason,
    step: int,
    *,
    agents: Iterable[Agent],
    channels: Iterable[Channel],
    seed: int = 0,
) -> Report:
    """Return the report of a learning group; `agents` and `channels`: all."""
    rates = ", ".join(f"{rate:g}" for rate in dict.fromkeys(_rates(group, agents, step, seed)))
    fix = f"lower its learning rate ({rates}), or the scale of the synthetic gradients it receives"
    users = "".join(f"what {code}, " for code in _users_code(group, reason, channels))
    place = "loss" if reason is Reason.LOSS_NOT_FINITE else "network's output"
    fix = f"{fix}, or look for nan in {users}its inputs and its {place}"
    if step == 0:
        places = f"{users}its {place}, its inputs and its initial weights"
        fix = f"nothing was learned before: look for nan in {places}"
    names = ", ".join(f"'{name}'" for name in group.agent_names)
    line = f"agent {names}: the {reason.value} at step {step + 1} is not finite; {fix}"
    return Report(step, line, seed)


def _rates(group: LearningGroup, agents: Iterable[Agent], step: int, seed: int) -> Iterator[float]:
    """Yield the learning rates of a group's agents at a step."""
    for agent in agents:
        rate = agent.learner.rate_at(step)
        for n, member in enumerate(agent.members):
            if member.name in group.agent_names and agent.layout.seed_of(n) == seed:
                yield float(rate[n] if isinstance(rate, Tensor) and rate.dim() else rate)


def _users_code(group: LearningGroup, reason: Reason, channels: Iterable[Channel]) -> list[str]:
    """What users' code of channels returns to a group: for its gradient a `credit` or a predicted one, for any reason a
    predicted message."""
    found = []
    for channel in channels:
        sent = [member.name for member in channel.members if member.sender in group.agent_names]
        read = [member.name for member in channel.members if member.receiver in group.agent_names]
        if reason is Reason.NOT_FINITE and sent:
            if channel.coupling.has_users_credit:
                found.append(f"`credit` of its coupling '{channel.coupling.name}' returns")
            if _is_users(channel.synthetic_gradient.model):
                found.append(f"the synthetic gradient of its channel {sent[0]} returns")
        if read and _is_users(channel.synthetic_input.model):
            found.append(f"the synthetic input of its channel {read[0]} returns")
    return list(dict.fromkeys(found))


def _is_users(model: Model | None) -> bool:
    return model is not None and model.kept_state is not None


def channel_report(channel: Channel, step: int, *, of_input: bool, seed: int = 0) -> Report:
    """Return the report of the synthetic gradient or input of a channel."""
    kind, endpoint = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
    fix = (
        "the learning rate of the synthetic input"
        if of_input
        else "its learning rate, or the rate of its synthetic gradients"
    )
    line = (
        f"agent '{endpoint}': the loss of the synthetic {kind} of its channel {channel.name} at step {step + 1} "
        f"is not finite; lower {fix}"
    )
    return Report(step, line, seed)
