"""The engine, which takes steps: its ordinary case is a stack of agents (rule 13, a step).

Agents tick (forward.py); the environment moves on; then `Engine.learn` has six stages. All is computed with the
parameters of before the step, and checked, before any parameter moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from antiphon.base.memory import keep_memory
from antiphon.engine.heart.backward import BackwardPass
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.moving import Moving
from antiphon.engine.heart.policies.experience import value_final_observations
from antiphon.engine.heart.policies.learning import PolicyLearning, WindowsAtOnce
from antiphon.engine.heart.policies.passes import FurtherPasses
from antiphon.engine.heart.predictors import PredictorTrainer, Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.sweep import Sweep
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import (
    EndedWindows,
    GroupWindows,
    StepReport,
    Update,
)
from antiphon.engine.heart.window import NO_TICK_YET, LearningGroup, Window
from antiphon.engine.heart.window_losses import ObjectiveEvaluator
from antiphon.nets.mask import NONE


def end_episodes(forward_pass: ForwardPass, step: int, ends: EpisodeEnds) -> None:
    """End the episodes that ended with `step` (rule 20), after policies have valued their final observations (rule 40)."""
    if ends.final_signals is not None:
        value_final_observations(forward_pass, step, ends.final_signals)
    if not ends.anywhere:
        return
    forward_pass.contexts.end_episodes(ends)
    for channel in forward_pass.system.channels.values():  # messages held or in flight are void there
        ended_rows = ends.rows_over(channel.layout, *channel.life_names_by_endpoint)
        if ended_rows is not NONE:
            terminated_rows = channel.terminated_rows(ends) if channel.carries_state else NONE
            channel.wire.end_episodes(step, ended_rows, terminated_rows)


def delete_spent_messages(channels: Iterable[Channel], step: int) -> None:
    """Delete the messages of channels that no tick will read, once agents have ticked at `step`.

    Only an inbox into which a message has come at this step is asked: it takes the place of an older one.
    """
    for channel in channels:
        if step in channel.wire.inbox.messages:
            channel.wire.inbox.delete_spent(step)


class Engine:
    """Runs a system of stacks step by step. If a stack `has_member_axis`, its parameters have a leading axis of members.

    Args:
        single_systems: The single agents that the stacks are made of, a system for each seed.
    """

    def __init__(self, system: System, single_systems: Sequence[System]) -> None:
        keep_memory()
        self.system, self.single_systems = system, single_systems
        self.forward_pass = ForwardPass(system)
        self.forward_pass.counts_observations = True
        self.predictor_trainer = PredictorTrainer(system)
        windows_at_once = WindowsAtOnce(self.forward_pass)
        self.policies = PolicyLearning(system, windows_at_once)
        self.objective_evaluator = ObjectiveEvaluator(system, self.policies)
        self.backward_pass = BackwardPass(system, self.objective_evaluator, self.predictor_trainer)
        self.sweep = Sweep(system, self.backward_pass) if system.sweeps else None
        if self.sweep is not None:
            self.forward_pass.after_call = self.sweep.after_call
        self.moving = Moving(system, single_systems)
        self.further_passes = FurtherPasses(
            single_systems, windows_at_once, self.predictor_trainer, self.moving
        )

    # --- a step --------------------------------------------------------------------------------------------

    def tick(self, step: int, step_signals: StepSignals) -> Action | None:
        """Tick all agents that are due at `step`, in waves; return what is done in the environment; None: no agent acts."""
        self.moving.statistics.keep()
        if self.sweep is not None:
            self.sweep.begin(step)
        self.forward_pass.tick_agents(step, step_signals)
        delete_spent_messages(self.system.channels.values(), step)
        return self.forward_pass.acting.action()

    def learn(self, step: int, ends: EpisodeEnds, *, watch: Watch = False) -> StepReport:
        """End episodes, update every agent and predictor whose time has come, in six stages, and return what was learned.

        Where steps are recorded (engine/capture), the host must not branch on `step`, here as in `tick`, in losses,
        credits and predictors too; else engine/capture/conditions.py must name an obstacle.

        Args:
            watch: Whether, or of which channels, predictions are kept for telemetry; it changes no number.

        Raises:
            DivergenceError: A number is not finite, and there is one seed. No parameter has moved; but ticks have
                replaced running statistics, and gradients have been booked. To go on, restore statistics
                (`RunningStatistics.restore`), or load a state.
        """
        # 1. Episodes end: messages become void.
        end_episodes(self.forward_pass, step, ends)
        # 2. Windows that end leave their groups. Those to learn from are differentiated turn by turn.
        ended_windows = self._pop_ended_windows(step)
        if not self.system.channels and not any(ended_windows):
            # no window ends, and nothing can come back: there is nothing to learn
            self.moving.end_step(step)
            return StepReport([], {})
        turns = self._learn_in_turns(ended_windows, step)
        # 3. These windows, and those that are skipped, close in the inboxes that they are read from: a message whose last window
        # closes is finished, and its gradient goes back. So no credit of this step has it, even without delay.
        closing_windows = [*ended_windows.to_learn, *ended_windows.to_skip]
        for group, window in closing_windows:
            for _, sent in window.sent:
                sent.window_open = False
            for name in group.agent_names:
                for channel in self.system.agents[name].connections.read_channels:
                    channel.wire.inbox.close(window.number, step)
        # 4. Predictors are differentiated on what has come back.
        messages_back = self.predictor_trainer.pop_messages_back(step)
        predictor_updates = self.predictor_trainer.collect_updates(
            messages_back, ended_windows.to_learn, step, watch=watch
        )
        input_updates = self.predictor_trainer.collect_input_updates()
        updates, of_predictors = [*chain(*turns)], [*predictor_updates.items(), *input_updates.items()]
        self.moving.check_predictors(of_predictors, step)
        # 5. All is computed and checked: now, and only now, parameters move.
        self.policies.count_returns(updates)
        self.moving.move(turns, of_predictors, step)
        self.further_passes.take(turns, step)
        self.policies.copy_to_target_networks(updates)
        # 6. What only this step needs is freed.
        self.predictor_trainer.clear_step()
        for _, window in closing_windows:
            window.free_graph()
        self.moving.end_step(step)
        return StepReport(updates, predictor_updates, input_updates, ended_windows.to_skip)

    def _pop_ended_windows(self, step: int) -> EndedWindows:
        """Take the windows that end at `step` from their groups; return those to learn from, of a group the oldest first, or
        to skip. A group that waits keeps those whose gradients are not back (`choose_windows`)."""
        ended_windows = EndedWindows([], [])
        for group in self.system.groups:
            window_number = group.grid.number_ending_at(step)
            if window_number is None:
                continue
            window = group.pop_window()
            if window.number == NO_TICK_YET:
                ended_windows.to_skip.append((group, Window(window_number)))
                continue
            assert window.number == window_number, "a window ends with the number that it began with"
            if group.horizons:
                choose_windows(self.system, group, window, step, ended_windows)
            else:
                ended_windows.to_learn.append((group, window))
        return ended_windows

    def _learn_in_turns(self, ended_windows: EndedWindows, step: int) -> list[list[Update]]:
        """Learn from windows turn by turn, as far as parameters stay (stage 2 of `learn`); return the updates by turn."""
        turns, swept = list[list[Update]](), {} if self.sweep is None else self.sweep.pop_updates()
        for windows in turns_of(ended_windows.to_learn):
            late_windows = [w for group, w in windows if w.number != group.grid.number_ending_at(step)]
            for window in late_windows:
                self.forward_pass.replay(window)
            unswept = [(group, window) for group, window in windows if window not in swept]
            differentiated = self.backward_pass.differentiate_windows(unswept, step)
            update_by_window = swept | {update.window: update for update in differentiated}
            turn = [update_by_window[window] for _, window in windows]
            self.moving.settle(turn, step)
            for update in turn:
                self.backward_pass.book(update)
            # not in stage 6: heads that no loss depends on keep parts of the graph
            for window in late_windows:
                window.free_graph()
            turns.append(turn)
        return turns


def turns_of(windows_to_learn: GroupWindows) -> list[GroupWindows]:
    """Return windows in turns: those of a turn are differentiated together, and moved before the next turn's; of one group
    the oldest is first."""
    turns: list[GroupWindows] = []
    taken = Counter[LearningGroup]()
    for group, window in windows_to_learn:
        if taken[group] == len(turns):
            turns.append([])
        turns[taken[group]].append((group, window))
        taken[group] += 1
    return turns


# --- windows that wait -------------------------------------------------------------------------------------


def choose_windows(
    system: System, group: LearningGroup, window: Window, step: int, chosen: EndedWindows
) -> None:
    """Choose, of a group that waits and whose `window` has ended, the windows to learn from and those to skip; the others
    wait on (rule 27b).

    A window waits for a message that it sent to another group, if its coupling `waits_for` it, while what returns is
    pending (`Sent.is_pending`). A channel is given up for a window if one of its gradients is not back when `horizon`
    further windows of the group have ended: the window then has no returned gradient for any message of the channel.
    A window that waits keeps its ticks, without their graph; it is replayed just before its turn.
    """
    channels, ended_windows = system.channels, [*group.waiting, window]
    group.waiting.clear()
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
            group.waiting.append(ended)
        elif _contributes(system, group, ended):
            chosen.to_learn.append((group, ended))
        else:
            chosen.to_skip.append((group, ended))


def _contributes(system: System, group: LearningGroup, window: Window) -> bool:
    """Whether more than given up gradients can reach a window: an objective, a prediction, or another channel."""
    given_up = window.given_up_channel_names
    if not given_up or any(system.agents[name].goal is not None for name in group.agent_names):
        return True
    channels = {name: system.channels[name] for name, _ in window.sent}
    return any(
        c.predicts or (c.coupling.gives_credit and name not in given_up) for name, c in channels.items()
    )
