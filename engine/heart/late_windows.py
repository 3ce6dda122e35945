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

from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import EndedWindows
from antiphon.engine.heart.window import LearningGroup, Window


def choose_windows(system: System, group: LearningGroup, window: Window, step: int) -> EndedWindows:
    """Return, of a group that waits and whose `window` has ended, the windows to learn from, which of them to replay, and
    those to skip; the others wait on."""
    chosen, channels = EndedWindows([], [], set()), system.channels
    ended_windows, waiting = [*group.waiting, window], list[Window]()
    for ended in ended_windows:
        awaited_names = {
            name
            for name, sent in ended.sent
            if name in group.horizons
            and sent.is_pending(step)
            and channels[name].coupling.waits_for(sent.stamp, step)
        }
        # a channel whose horizon has passed is given up, for this window and for good
        age = window.number - ended.number
        ended.given_up_channel_names |= {name for name in awaited_names if age >= group.horizons[name]}
        if not awaited_names <= ended.given_up_channel_names:
            ended.free_graph()
            waiting.append(ended)
        elif _contributes(system, group, ended):
            chosen.to_learn.append((group, ended))
            if ended is not window:
                chosen.to_replay.add(ended)
        else:
            chosen.to_skip.append((group, ended))
    group.waiting[:] = waiting
    return chosen


def _contributes(system: System, group: LearningGroup, window: Window) -> bool:
    """Whether more than given up gradients can reach a window: an objective, a prediction, or another channel."""
    given_up = window.given_up_channel_names
    if not given_up or any(system.agents[name].goal is not None for name in group.agent_names):
        return True
    channels = {name: system.channels[name] for name, _ in window.sent}
    return any(c.predicts or (c.gives_credit and name not in given_up) for name, c in channels.items())
