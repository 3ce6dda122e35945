"""Returns: what a state's synthetic gradient learns from, reaching over several windows (semantics 11; BP(lambda)).

With g_j the gradient of window j's own losses by the state it starts from, J_j the Jacobian of the state it ends with,
and SG_j what the predictor says of that state, the return of the state that window j starts from is

    G_j = g_j + discount J_j^T [(1 - lambda) SG_j+1 + lambda G_j+1],

where beyond the newest window G is SG itself. Windows are replayed with the parameters of now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from antiphon.base.mask import NONE
from antiphon.comms.backward_requests import BackwardRequest, Injection
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import GroupWindows, PendingUpdate, Update
from antiphon.engine.heart.window import CountedRead, LearningGroup, Window
from antiphon.nets.per_member import nonzero


class LambdaReturns(Feature):
    """Computes the returns of all state channels that ask for them.

    Args:
        engine: Replays windows; what is injected into the messages of one, its states' own included, is as in a step.
    """

    def __init__(self, engine: Engine) -> None:
        self.system, self.evaluator = engine.system, engine.objective_evaluator
        self.forward_pass, self.backward_pass = engine.forward_pass, engine.backward_pass

    def gradients_back(
        self, messages: Mapping[str, list[Message]], learned_windows: GroupWindows, step: int
    ) -> None:
        """Put the messages whose return is now known in place of those that wait for theirs."""
        with_return = self._extend(learned_windows, step)
        for name, messages_back in messages.items():
            if self.system.channels[name].has_lambda_returns:  # an episode's last state need not wait
                messages_back[:] = [message for message in messages_back if message.creditable is NONE]
                messages_back += with_return.get(name, ())

    def _extend(
        self, learned_windows: Iterable[tuple[LearningGroup, Window]], step: int
    ) -> dict[str, list[Message]]:
        """Take the windows that have just been learned from, and return the messages whose return is now known.

        Their gradients are the returns. By channel.
        """
        with_return: dict[str, list[Message]] = {}
        for group, window in learned_windows:
            with_returns = [
                c
                for name in group.agent_names
                if (c := self.system.agents[name].connections.state_channel) and c.has_lambda_returns
            ]
            if not with_returns:
                continue
            if all(learning_rows is NONE for learning_rows in window.learning_rows_by_agent.values()):
                continue
            past = group.learned_from
            if past and past[-1].number + 1 != window.number:
                past.clear()  # no gradient passes through a window that is missing
            past.append(window)
            spans = [channel.synthetic_gradient.state_settings.return_windows for channel in with_returns]
            del past[: -max(spans)]
            for channel, span in zip(with_returns, spans, strict=True):
                if len(past) >= span:
                    read = self._start(past[-span], channel)
                    if read is not None and (message := read.message).back_at is not None:
                        gradient = self._return(group, past[-span:], channel, step)
                        # Zero where an episode ended before: its predictor has learned that already.
                        message.booked.replace_gradient(channel.as_returned(gradient, read.counted))
                        with_return.setdefault(channel.name, []).append(message)
        return with_return

    @staticmethod
    def _start(window: Window, channel: Channel) -> CountedRead | None:
        first = next((tick.state_read for tick in window.ticks() if tick.agent_name == channel.sender), None)
        return first if isinstance(first, CountedRead) else None

    def _return(self, group: LearningGroup, windows: list[Window], channel: Channel, step: int) -> Tensor:
        """[B, state size]: G of the state that the oldest of `windows` started from."""
        state_channels = [
            c
            for name in group.agent_names
            if (c := self.system.agents[name].connections.state_channel) is not None
        ]
        returns: dict[str, Tensor] = {}
        for window in reversed(windows):
            self.forward_pass.replay(window)
            window_loss, losses = self.evaluator.window_loss(window)
            pending = PendingUpdate(Update(group, window, window_loss), losses)
            self.backward_pass.collect_injections(pending, step)
            injections = [
                credited.injection for credited in pending.injections if nonzero(credited.injection.discount)
            ]
            for state_channel in state_channels:
                beyond = self._beyond(window, state_channel, returns.get(state_channel.name), step)
                if beyond is not None:
                    injections.append(beyond)
            values_read = {
                state_channel.name: start.value
                for state_channel in state_channels
                if (start := self._start(window, state_channel)) is not None
                and state_channel.ledger.returns_gradients
            }
            request = BackwardRequest(
                losses=[loss for _, loss in losses],
                injections=injections,
                parameters={},
                values_read=list(values_read.values()),
            )
            place = str(step), "return", channel.name
            ((_, gradients),) = self.backward_pass.gradients(
                [(group, window)], [request], self.system.batch, *place
            )
            returns = {name: g for name, g in zip(values_read, gradients, strict=True) if g is not None}
            window.free_graph()
        return returns.get(channel.name, torch.zeros_like(self.system.channels[channel.name].content.zeros))

    def _beyond(
        self, window: Window, state_channel: Channel, later: Tensor | None, step: int
    ) -> Injection | None:
        """What is mixed in beside the synthetic gradient: lambda (G - SG) of the state that the window ended with."""
        message = window.final_state(state_channel.name)
        if message is None or later is None:
            return None
        if window.learning_rows_by_agent[state_channel.sender] is NONE or message.creditable is NONE:
            return None
        if not (state_channel.has_lambda_returns and state_channel.injects_prediction):
            return None
        prediction = self.backward_pass.predictor_trainer.predict(state_channel, message)
        if prediction is None:
            return None
        share = state_channel.synthetic_gradient.state_settings.return_lambda
        credit = share * (later - state_channel.clipped_credit(prediction))
        output = window.outputs_with_graph[state_channel.name, message.stamp]
        return state_channel.injection_of(output, credit, message.creditable, step)
