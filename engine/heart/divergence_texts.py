"""Reports of divergences: what a user reads of one, with how it may be mended."""

from __future__ import annotations

from dataclasses import dataclass

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.window import LearningGroup

NOT_FINITE = "is not finite"
GRADIENT, LOSS = "gradient {at} " + NOT_FINITE, "loss {at} " + NOT_FINITE
"""The reasons to report a group of agents; `at` stands for the step."""


@dataclass(frozen=True)
class Report:
    """A report of a divergence: one line about agents, with their names as data.

    Attributes:
        step: The step that it is about.
        text: The line, with `{agents}` for the quoted names and `{channel}` for the channel's.
        agent_names: The agents that it is about: a learning group, or an endpoint of a channel.
        channel_name: The channel that it is about; "": none.
        seed: The seed of the agents, among several.
    """

    step: int
    text: str
    agent_names: tuple[str, ...]
    channel_name: str = ""
    seed: int = 0

    def __str__(self) -> str:
        agents = ", ".join(f"'{name}'" for name in self.agent_names)
        return self.text.format(agents=agents, channel=self.channel_name)


def group_report(group: LearningGroup, reason: str, step: int, seed: int = 0) -> Report:
    """Return the report of a group of agents; `{at}` in the reason stands for the step."""
    fix = "lower its learning rate, or the scale of the synthetic gradients it receives"
    if reason in (LOSS, GRADIENT):
        place = "loss" if reason == LOSS else "network's output"
        fix = f"{fix}, or look for nan in its inputs and its {place}"
        if step == 0:
            fix = (
                f"nothing was learned before: look for nan in its {place}, its inputs and its initial weights"
            )
    text = f"agent {{agents}}: the {reason.format(at=f'at step {step + 1}')}; {fix}"
    return Report(step, text, group.agent_names, seed=seed)


def channel_report(channel: Channel, reason: str, step: int, *, of_input: bool, seed: int = 0) -> Report:
    """Return the report of the synthetic gradient or input of a channel."""
    kind, endpoint = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
    fix = (
        "the learning rate of the synthetic input"
        if of_input
        else "its learning rate, or the rate of its synthetic gradients"
    )
    text = (
        f"agent {{agents}}: the loss of the synthetic {kind} of its channel {{channel}} at step {step + 1} {reason}; "
        f"lower {fix}"
    )
    return Report(step, text, (endpoint,), channel.name, seed)
