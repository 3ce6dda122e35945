"""Local policies: what receivers did at the ticks that read a message goes back to its sender, with the advantages (semantics 9)."""

from __future__ import annotations

from antiphon.comms.examples import ReturnedAction
from antiphon.engine.heart.feature import FeatureOfSystem
from antiphon.engine.heart.updates import Update
from antiphon.engine.heart.window import CountedRead
from antiphon.engine.policies.policy_window import policy_windows
from antiphon.nets.per_member import scaled


class ReturnedActions(FeatureOfSystem):
    """The actions of a system's policies that go back to the senders of what they read."""

    def after_book(self, update: Update) -> None:
        """Enter what policies did at the ticks that read a message, with their advantages, for `local_policy`."""
        for name, window in policy_windows(update.window_loss).items():
            agent, actions = self.system.agents[name], window.trajectory.actions
            channels = {
                channel.name: channel
                for channel in agent.connections.incoming
                if channel.synthetic_gradient.needs_actions
            }
            if not channels or actions is None or agent.goal is None:
                continue
            advantages = scaled(window.advantages.weighted(len(agent.members)), agent.goal.weight, 1)
            each = zip(window.ticks, actions, advantages, window.advantages.valid, strict=True)
            for tick, *returned in each:
                for read in tick.reads():
                    channel = channels.get(read.channel_name)
                    if channel is not None and isinstance(read, CountedRead):
                        action, advantage, valid = map(channel.rows_from_receiver, returned)
                        advantage, valid = map(read.counted.zero_elsewhere, (advantage, valid))
                        read.message.booked.actions.append(ReturnedAction(action, advantage, valid))
