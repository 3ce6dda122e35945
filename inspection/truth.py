"""The true gradient of messages: a system run on as one differentiable whole (semantics 33a).

Every message made from there on is passed with its graph, whatever its channel's coupling and wherever windows end;
parameters stay, nothing learns. What was sent before stands as numbers. Links delay, lose and spoil as in the run,
the gradient going straight through noise and bits; the probability of `learn` and synthetic inputs play no part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.problems import check_counts
from antiphon.comms.backward_requests import constant
from antiphon.comms.gradient_alignment import alignment
from antiphon.engine.environment import EnvironmentRunner
from antiphon.engine.heart.channel import Channel, SyntheticInput
from antiphon.engine.heart.ends import Arrival, Sent
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.step import end_episodes
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import NO_TICK_YET, Constant, Read, Tick, Window
from antiphon.engine.heart.window_losses import ObjectiveEvaluator, TickLoss
from antiphon.engine.inference.rollout import copied
from antiphon.engine.live_system import LiveSystem
from antiphon.nets.mask import Mask


@dataclass(frozen=True, slots=True)
class Probe:
    """The true gradient of one message, and its synthetic gradient.

    Attributes:
        true: [B, size], B * dL/dmessage: the gradient of all losses up to the horizon.
        synthetic: [B, size], the present prediction of the channel's predictor for the same message; None without a
            predictor, or if its target is absent.
        alignment: `antiphon.comms.alignment` of the two; empty without `synthetic`.
    """

    true: Tensor
    synthetic: Tensor | None = None
    alignment: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        aligned = ", ".join(f"{name} {value:.3f}" for name, value in self.alignment.items())
        return f"<Probe: true {list(self.true.shape)}{', ' if aligned else ''}{aligned}>"


def true_gradients(running: LiveSystem, horizon: int = 0) -> dict[str, Probe]:
    """Return the gradient of the losses of the next step and `horizon` further ones by every message of the next step.

    A fork takes these steps with the present parameters: all channels pass gradients as if locked, across windows too, the
    links lose the same messages as in the run, and the end of an episode cuts the paths through it. Noise and quantisation
    pass the gradient unchanged (straight-through). Every agent counts, whatever its `learn`, and reads real messages, never
    a synthetic input. No bit of `running` changes.

    Args:
        running: What runs, after any number of steps.
        horizon: Further steps whose losses count. A message that arrives later has no gradient. With an objective at the
            end of an episode of `hold` steps, `hold - 1` is enough at the first step.

    Returns:
        By channel, for the channels that send at step `running.now`.

    Raises:
        ScenarioError: The horizon is negative.
    """
    check_counts("probe", 0, needed=True, horizon=horizon)
    with running.fork(stacked=False) as twin:
        rollout = DifferentiableRollout(twin.system, twin.now, twin.system.channels.keys())
        rollout.run(twin.world, 1)  # only now are the signals known that a context may use
        trainer, channels = PredictorTrainer(rollout.system), rollout.system.channels
        with torch.no_grad():
            synthetic = {name: trainer.predict(channels[name], m) for name, m in rollout.sent.items()}
        rollout.run(twin.world, horizon)
    probes = {}
    for name, true in rollout.gradients().items():
        signal = synthetic.get(name)
        aligned = {} if signal is None else {key: v.item() for key, v in alignment(signal, true).items()}
        probes[name] = Probe(true, signal, aligned)
    return probes


class _GraphPass(ForwardPass):
    """Ticks that pass every message on with its graph: by the rules of the ends, but cut nowhere."""

    def __init__(self, system: System, start: int, marked: Collection[str]) -> None:
        super().__init__(system)
        self.start = start
        self.marked = marked
        self.sent: dict[str, Sent] = {}

    def as_read(self, channel: Channel, arrival: Arrival, tick: Tick, window: Window) -> Read:
        return Constant(channel.name, arrival.value, arrival.available)

    def send_over(
        self, channel: Channel, step: int, output: Tensor, step_signals: StepSignals, void: Mask
    ) -> Sent:
        output = output.flatten(1)
        sent = channel.wire.outbox.send(step, output, step_signals, void)
        if step == self.start and channel.name in self.marked:
            output = output.clone()  # channels that share a port have a gradient each
            if not output.requires_grad:
                output.requires_grad_()
            self.sent[channel.name] = sent
        sent.value = output
        channel.wire.inbox.messages[step].value = channel.wire.link.carry(step, output)
        return sent


class _MeansOfWholeWindows(ObjectiveEvaluator):
    """Losses of a rollout; those that are means over a window (`reduction: mean`) are divided as in training, by the ticks of their window.

    The one window of the rollout has all its ticks, which are fewer than those of a window, or those of several windows.
    """

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._means = [name for name, goal in system.goals().items() if goal.mean_over_targets]
        self._window_ticks: dict[tuple[str, int], int] = {}
        """By agent and tick: how many ticks the tick's window has."""

    def note_window_ticks(self, step: int) -> None:
        """Note how many ticks the windows have of the agents that tick at `step`.

        How long an episode to come is, where episodes are windows, is not known; no loss of it depends on a message of the present one.
        """
        for name in self._means:
            clock, grid = self.system.agents[name].clock, self.system.group_by_agent[name].grid
            if clock.ticks_at(step):
                ticks = clock.among(grid.steps_of(grid.number_at(step)))
                self._window_ticks[name, step] = len(ticks)

    def tick_terms(self, tick: Tick) -> list[TickLoss | None]:
        """Return the losses of a tick times the share of the rollout's ticks, by which a mean is divided, of those of its window."""
        terms, name = super().tick_terms(tick), tick.agent_name
        window_ticks = self._window_ticks.get((name, tick.step))
        if window_ticks is None:
            return terms
        share = sum(of == name for of, _ in self._window_ticks) / window_ticks
        return [term and term._replace(losses=term.losses * share) for term in terms]


class DifferentiableRollout:
    """A copy of a system that ticks on with all its graphs, for some steps.

    It copies what changes (wires, windows, running statistics) and shares what does not (parameters, past messages), so
    that a truth costs a forward and a backward pass, and no fork.

    Args:
        system: What is copied; no bit of it changes.
        start: The step whose messages are differentiated: the next one.
        marked: The channels whose messages are differentiated.

    Attributes:
        sent: Messages of the step `start`, by channel: what is differentiated.
    """

    def __init__(self, system: System, start: int, marked: Collection[str] = ()) -> None:
        channels = {}
        for name, channel in system.channels.items():
            wire = channel.wire.copied()
            channels[name] = replace(channel, members=(), wire=wire, synthetic_input=SyntheticInput())
        self.system = copied(
            system,
            channels,
            lambda learner: learner.with_tensors(
                {name: constant(p) for name, p in learner.parameters.items()}
            ),
        )
        self.evaluator = _MeansOfWholeWindows(self.system)
        self.forward_pass = _GraphPass(self.system, start, marked)
        self.sent = self.forward_pass.sent

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Tick all agents due at `step`. No window closes here: one goes on under the number, and with the statistics, of the next.

        So no message is deleted (`delete_spent_messages`): all stay open.
        """
        for first_name, *_ in self.system.schedule.network_calls(step):
            group = self.system.group_by_agent[first_name]
            window, window_number = group.window, group.grid.number_at(step)
            if window.number not in (NO_TICK_YET, window_number):
                self.forward_pass.begin_window(group, window_number)
        self.evaluator.note_window_ticks(step)
        self.forward_pass.tick_agents(step, step_signals)

    def run(self, world: EnvironmentRunner, steps: int) -> None:
        """Take steps in an environment; an episode's end cuts the paths through it."""
        for _ in range(steps):
            step = world.step_signals.step
            self.tick(step, world.step_signals)
            ends = world.advance(self.forward_pass.acting.action())
            end_episodes(self.forward_pass, step, ends)

    def losses(self) -> list[Tensor]:
        """Return the summed loss of every group that has one with a gradient."""
        batch, windows = self.system.batch, [group.window for group in self.system.groups]
        roots_by_window = [self.evaluator.window_loss(window)[1] for window in windows]
        totals = [sum(root.sum() for root in roots) for roots in roots_by_window]
        return [total / batch for total in totals if isinstance(total, Tensor) and total.requires_grad]

    def gradients(self) -> dict[str, Tensor]:
        """Return B times the gradient of all losses by every marked message that was sent, [B, size]."""
        messages = [sent.value for sent in self.sent.values()]
        outputs = self.losses()
        if not outputs or not messages:
            return {name: torch.zeros_like(sent.value) for name, sent in self.sent.items()}
        gradients = torch.autograd.grad(outputs, messages, allow_unused=True)
        return {
            name: torch.zeros_like(message) if g is None else g * self.system.batch
            for name, message, g in zip(self.sent, messages, gradients, strict=True)
        }


def chosen_channels(measurable: Sequence[str], channels: Sequence[str] | None, probe: str) -> list[str]:
    """Return those of the channels that a probe can measure that are named, in canonical order (None: all); ScenarioError for others."""
    measurement, _, kind = probe.partition(": ")
    for name in channels or ():
        if name not in measurable:
            raise ScenarioError(f"{measurement}: '{name}' is no {kind}{suggest(name, measurable)}")
    return list(measurable) if channels is None else [name for name in measurable if name in channels]
