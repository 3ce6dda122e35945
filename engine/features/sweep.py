"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated together, after all agents have ticked, and all their graphs
exist at once. The numbers are the same: parameters move at the end of the step in either order (semantics 7), and what a
window returns is booked there. It takes a learning signal that is complete at the tick (`obstacle`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import Call
from antiphon.engine.heart.learn import BackwardPass
from antiphon.engine.heart.message import LearningGroup, Message, Window
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate, Update


class SweepOrder:
    """The learning groups of a system that are differentiated as soon as they have ticked.

    Args:
        system: Agents, channels and groups.
        backward_pass: Differentiates their windows.
        predictor_trainer: Of the synthetic gradients of their messages.

    Attributes:
        groups: These.
    """

    def __init__(
        self, system: System, backward_pass: BackwardPass, predictor_trainer: PredictorTrainer
    ) -> None:
        self.system = system
        self.backward_pass, self.predictor_trainer = backward_pass, predictor_trainer
        self.groups = {group for group in system.groups if obstacle(system, group) is None}
        self.before: Callable[[], None] | None = None
        """Hook after a group's forward pass, before its window is differentiated."""

    def complete(self, step: int) -> Mapping[Call, LearningGroup]:
        """The groups whose window is complete at `step`, by the last of their calls."""
        last = {self.system.group_of[call[0]]: call for call in self.system.schedule.calls(step)}
        return {
            call: group
            for group, call in last.items()
            if group in self.groups and group.windows.ending(step) is not None
        }

    def ticked(self, step: int, *, keep: bool) -> Callable[[Call], None]:
        """Return what is done after each call of a step.

        Args:
            step: The step.
            keep: See `Engine.tick`.
        """
        self.backward_pass.differentiated, self.predictor_trainer.differentiated = {}, {}
        complete = self.complete(step)

        def ticked(call: Call) -> None:
            if call in complete:
                group = complete[call]
                window = group.window
                if self.before is not None:
                    self.before()
                (update,) = self.backward_pass.differentiate([(group, window)], step)
                examples = self.predictor_trainer.local_examples([window])
                local = self.predictor_trainer.differentiate(examples)
                self.predictor_trainer.differentiated |= local
                window.release()
                self.backward_pass.differentiated[window] = update
                if not keep:
                    self._release(window, update, local)

        return ticked

    def _release(self, window: Window, update: Update, local: Mapping[str, PredictorUpdate]) -> None:
        """Release what nothing but figures reads of a window."""
        update.injected.clear()
        for learned in local.values():
            learned.examples.clear()
        channels = self.system.channels
        for name, message in window.sent:
            if not channels[name].ledger.wants_gradient:
                self.predictor_trainer.predicted.pop(message, None)
        for read in window.leaves.values():
            channel = channels[read.channel]
            if channel.sampler is not None:
                continue  # a sample is sent again where its window is replayed
            if self._spent(channel, read.message):
                channel.ledger.release(read.message)
                read.release()

    def _spent(self, channel: Channel, message: Message) -> bool:
        """Whether neither a message nor its gradient is read after its reader's window has been differentiated."""
        ledger, sent = channel.ledger, self.system.group_of[channel.sender].window
        kept = ledger.wants_gradient or ledger.remembers or ledger.link.loses
        if kept or (channel.name, message.stamp) in sent.live:
            return False
        # Sent at every step and read at its own, it has one use, and another one is the newest of the next step's figures.
        return ledger.link.delay + ledger.back == 0 and ledger.sender.due(message.stamp + 1)


def obstacle(system: System, group: LearningGroup) -> str | None:
    """Return why a group's learning signal is not complete once it has ticked, in one line; None: it is."""
    return next(_obstacles(system, group), None)


def _obstacles(system: System, group: LearningGroup) -> Iterator[str]:
    signals = system.description.all_signals

    def late(name: str) -> bool:
        return signals[name].known == "after_step"

    if group.late:
        yield "it waits for delayed gradients"
    for name in group.members:
        agent = system.agents[name]
        if agent.goal is not None and agent.goal.policy is not None:
            yield "rewards are known after the step"
        elif agent.goal is not None:
            yield from (
                f"the target {name} is known after the step" for name in agent.goal.signals if late(name)
            )
        for channel in agent.sends:
            if channel.mixes:
                yield f"{channel.names[0]} mixes in what its receiver returns at the same step"
            if channel.gradient.model is None:
                continue
            read = [spec.name for spec in channel.gradient.context]
            needed = read if channel.gradient.target is None else [*read, channel.gradient.target]
            for signal in filter(late, needed):
                yield f"the synthetic gradient of {channel.names[0]} reads {signal}, known after the step"
            if not channel.injects or system.description.endless:
                continue
            # read at the step at which it is sent, so that no episode ends before? A state's link has a delay
            sender, receiver = channel.ledger.sender, channel.ledger.receiver
            every = sender.period % receiver.period == 0 and receiver.due(sender.after(-1))
            if not every or channel.ledger.link.delay:
                yield f"an episode's end can void a message of {channel.names[0]} before it is read"
