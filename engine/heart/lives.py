"""Lives: agents of the environment that die, return or come late; what is sent to or by them is void where they are not (semantics 20)."""

from __future__ import annotations

from antiphon.base.mask import NONE, Mask
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import EpisodeEnds, StepSignals


def absent_ends(channel: Channel, step_signals: StepSignals) -> Mask:
    """The rows of a channel in which its sender or its receiver does not live at a step."""
    rows = NONE
    for lives in channel.lives:
        absent = {life: step_signals.absent(life) for life in dict.fromkeys(lives)}
        rows |= channel.layout.mask_by_name(absent, lives)
    return rows


def episodes_over(channel: Channel, ends: EpisodeEnds) -> tuple[Mask, Mask]:
    """The rows of a channel whose messages are void after a step, and of these where a state's episode terminated."""
    layout = channel.layout
    ended, terminated = (mask.map(layout.to_rows) for mask in (ends.ended, ends.terminated))
    if ends.lives:
        over, for_good = ({name: ended[kind] for name, ended in ends.lives.items()} for kind in (0, 1))
        for lives in channel.lives:
            dead = layout.mask_by_name(over, lives)
            ended |= dead
            terminated = layout.mask_by_name(for_good, lives) | (terminated & ~dead)
    return ended, terminated


def episodes_of(agent: Agent, ends: EpisodeEnds) -> Mask:
    """The rows of an agent whose own episode is over after a step."""
    ended = ends.ended.map(agent.layout.to_rows)
    if not ends.lives or not any(agent.lives):
        return ended
    over = {name: dead for name, (dead, _) in ends.lives.items()}
    return ended | agent.layout.mask_by_name(over, agent.lives)
