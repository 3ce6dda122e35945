"""Late windows: they wait for the returned gradients of delayed messages before they are learned from (rule 27b).

A window waits for a message that it sent to another group, if its coupling `waits_for` it, while what returns is
pending (`Sent.is_pending`): until the gradient is back or it is known that none returns. A channel is given up for a window
if one of its gradients is not back when `horizon` further windows of the group have ended: the window then has no
returned gradient for any message of the channel, also where it is back. What its coupling makes without one is
injected: `delayed` nothing, another one may predict.

Whether a window waits is asked only as a window of its group ends: a gradient that comes back in between is used then.
A window that waits keeps its ticks, without their graph. It is replayed just before its turn
(`Engine._learn_in_turns`), and learned from as a whole, with the parameters of then.
"""

from __future__ import annotations

from collections.abc import Callable

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import EndedWindows
from antiphon.engine.heart.window import LearningGroup, Window


class LateWindows(Feature):
    """Windows that wait for delayed gradients: which are learned from at a step."""

    def __init__(self, engine: Engine) -> None:
        self.system = engine.system
        self.not_awaited: Callable[[Channel, Sent], bool] | None = None
        """Hook on delayed messages: those for which a probe puts another credit in place of what comes back."""

    def choose_windows(self, group: LearningGroup, window: Window, step: int) -> EndedWindows:
        """Return a late group's windows to learn from, which of them to replay, and those to skip; others wait."""
        chosen, channels = EndedWindows([], [], set()), self.system.channels
        ended_windows, waiting = [*group.waiting, window], list[Window]()
        for ended in ended_windows:
            awaited_names = {
                name
                for name, sent in ended.sent
                if name in group.horizons and self._is_awaited(channels[name], sent, step)
            }
            # a channel whose horizon has passed is given up, for this window and for good
            age = window.number - ended.number
            ended.given_up_channel_names |= {name for name in awaited_names if age >= group.horizons[name]}
            if not awaited_names <= ended.given_up_channel_names:
                ended.free_graph()
                waiting.append(ended)
            elif self._contributes(group, ended):
                chosen.to_learn.append((group, ended))
                if ended is not window:
                    chosen.to_replay.add(ended)
            else:
                chosen.to_skip.append((group, ended))
        group.waiting[:] = waiting
        return chosen

    def _contributes(self, group: LearningGroup, window: Window) -> bool:
        """Whether more than given up gradients can reach a window: an objective, a prediction, or another channel."""
        if not window.given_up_channel_names or any(
            self.system.agents[name].goal is not None for name in group.agent_names
        ):
            return True
        given_up = window.given_up_channel_names
        channels = {name: self.system.channels[name] for name, _ in window.sent}
        return any(c.predicts or (c.gives_credit and name not in given_up) for name, c in channels.items())

    def _is_awaited(self, channel: Channel, sent: Sent, step: int) -> bool:
        """Whether a window waits for what returns for one of its messages, of a channel with a horizon."""
        if self.not_awaited is not None and self.not_awaited(channel, sent):
            return False
        return sent.is_pending(step) and channel.coupling.waits_for(sent.stamp, step)
