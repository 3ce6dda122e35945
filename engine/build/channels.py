"""Wiring: the channels of a scenario, each with its wire, its link and its predictors; optimisers and rates as it declares them."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.network import STATE
from antiphon.agents.objectives import Objective, objective_of
from antiphon.base.extensions import key_of, made, name_of
from antiphon.base.problems import DocumentError, within
from antiphon.comms.endpoint_values import (
    ENDPOINT_VALUES,
    GRADIENT_ENDPOINTS,
    INPUT_ENDPOINTS,
    PHASE,
    Measure,
)
from antiphon.comms.examples import ContextSpec
from antiphon.comms.links import Link
from antiphon.comms.predictors import Predictor, predictor_of
from antiphon.comms.symbols import MessageSampler
from antiphon.comms.synthetic_inputs import input_of
from antiphon.engine.build.shapes import Shape, Shapes, head_of
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import (
    Channel,
    PredictorContext,
    SyntheticGradient,
    SyntheticInput,
)
from antiphon.engine.heart.clock import StepWindows, WindowGrid
from antiphon.engine.heart.ends import Content, Wire
from antiphon.engine.heart.layout import Layout
from antiphon.engine.heart.timetable import Timetable
from antiphon.engine.heart.window import LearningGroup
from antiphon.envs.signal import Description
from antiphon.nets.random import generator, seed_for
from antiphon.nets.schedules import OwnSchedule, Rate, Schedule
from antiphon.scenarios.channel_specs import ChannelSpec, GradientSpec, InputSpec, SampleSpec
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.training import OptimiserSpec

_RETURNED = [name for name, value in ENDPOINT_VALUES.items() if value.is_returned]
_LONGEST_CYCLE = 16
"""Ticks of a sender: a longer cycle of windows is no phase."""


def optimiser_of(spec: OptimiserSpec | None, scenario: Scenario) -> tuple[dict[str, Any], Rate]:
    """Return the settings of an optimiser, as `TrainedParameters` takes them, and its rate; None: that of `training.optimiser`."""
    spec = spec or scenario.training.optimiser
    schedule, rate = spec.schedule, Rate(base=spec.lr, run_steps=scenario.training.steps)
    if schedule is None:
        return spec.settings, rate
    if schedule.built_in:
        moves: Schedule = schedule.source(**schedule.options, warmup=schedule.warmup)
    else:
        function = made("schedule", schedule.kind, schedule.options)
        moves = OwnSchedule(key=key_of(schedule.kind, schedule.options), function=function)
    return spec.settings, replace(rate, schedule=moves)


def connect(channel: Channel, agents: Mapping[str, Agent]) -> None:
    """Enter a channel at the agents that it joins, as far as they are here."""
    if channel.carries_state:
        agents[channel.sender].connections.state_channel = channel
        return
    if channel.sender in agents:
        agents[channel.sender].connections.outgoing.append(channel)
    if channel.receiver in agents:
        agents[channel.receiver].connections.incoming.append(channel)


@dataclass(frozen=True)
class Wiring:
    """Makes the channels of a scenario, once all `agents` and groups have been made."""

    scenario: Scenario
    env: Description
    seed: int
    device: torch.device
    dtype: torch.dtype
    shapes: Shapes
    local_agents: Container[str] | None = None
    """Those whose tensors have memory; None: all."""
    agents: dict[str, Agent] = field(default_factory=dict)
    group_of: dict[str, LearningGroup] = field(default_factory=dict)

    @cached_property
    def layout(self) -> Layout:
        return Layout(batch=self.scenario.training.batch, device=self.device)

    @cached_property
    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=self.dtype, device=self.device)

    def device_of(self, agent: str) -> torch.device:
        """Return the device of an agent's parameters, and of the predictors at its end of channels."""
        is_local = self.local_agents is None or agent in self.local_agents
        return self.device if is_local else torch.device("meta")

    def channel(self, spec: ChannelSpec) -> Channel:
        """Make a channel; ScenarioError where something does not fit."""
        shape = (self._state_size(spec.sender),) if spec.state else self.shapes.messages[spec.name]
        gradient = spec.gradient
        target: str | None = None
        context, predictor = PredictorContext(), None
        if spec.coupling.predicts:
            if gradient.has_own_loss:
                target = gradient.own_target  # a model of the target does not see it
            named = self.scenario.relations.context(spec)
            if gradient.closed_form and PHASE not in named and self._cycle(spec) is not None:
                named = (*named, PHASE)
            unseen = {target} if gradient.needs_returned else {target, *_RETURNED}
            seen = (name for name in named if name not in unseen)
            context, specs = self._context(spec, seen, GRADIENT_ENDPOINTS, shape)
            predictor = self._predictor(spec, shape, specs, target)
        returns = spec.coupling.uses_returned or (
            predictor is not None and (predictor.needs_returned or predictor.needs_loss)
        )
        keeps_returned = any(ENDPOINT_VALUES[name].is_returned for name in context.endpoint_values)
        wire = self._wire(spec, returns, keeps_returned=keeps_returned)
        lives = self.agents[spec.sender].life_name, self.agents[spec.receiver].life_name
        return Channel(
            name=spec.name,
            sender=spec.sender,
            receiver=spec.receiver,
            content=Content(
                STATE if spec.state else head_of(spec),
                shape,
                self._zero.expand(self.layout.batch, torch.Size(shape).numel()),
                None if spec.sample is None else self._sampler(spec, spec.sample),
            ),
            coupling=spec.coupling,
            wire=wire,
            synthetic_gradient=SyntheticGradient(
                model=predictor,
                context=context,
                target_signal_name=target,
                injected=gradient.apply,
                scale=gradient.scale,
                discount=gradient.discount,
                auxiliary=gradient.auxiliary if spec.state and predictor is not None else 0.0,
                replayed=spec.replayed,
            ),
            synthetic_input=self._synthetic_input(spec, spec.input, shape)
            if spec.input is not None and spec.coupling.predicts
            else SyntheticInput(),
            life_names=lives,
            mask_name=spec.mask or "",
            layout=self.layout,
        )

    def _sampler(self, spec: ChannelSpec, sample: SampleSpec) -> MessageSampler:
        # channels of one port send one message
        seed = seed_for(self.seed, "message", spec.sender, head_of(spec))
        path, name = ("channels", spec.name, "sample", "kind"), name_of(sample.kind)
        sampler = sample.source(seed=seed, **sample.options)
        if not isinstance(sampler, MessageSampler):
            kind = type(sampler).__name__
            raise DocumentError(
                path, f"{name} returns a {kind}; return an antiphon.comms.symbols.MessageSampler"
            )
        return sampler

    def _wire(self, spec: ChannelSpec, returns: bool, *, keeps_returned: bool) -> Wire:
        sender, receiver = self.agents[spec.sender].clock, self.agents[spec.receiver].clock
        grid, link = self.group_of[spec.receiver].grid, spec.link
        if spec.state:  # made at one tick, read at the next, and nothing is between
            timetable = Timetable(sender, sender, grid, delay=1, carries_state=True)
        else:
            slots = spec.slots(sender.tick_period, receiver.tick_period)
            timetable = Timetable(sender, receiver, grid, link.delay, link.back, slots)
        context = () if spec.input is None else spec.input.context
        return Wire(
            spec.name,
            timetable,
            Link(name=spec.name, seed=self.seed, drop=link.drop, noise=link.noise, bits=link.bits),
            returns,
            aligned=self.agents[spec.receiver].inputs.align_channel_name == spec.name,
            holds_all=any(name in INPUT_ENDPOINTS and ENDPOINT_VALUES[name].is_held for name in context),
            keeps_returned=keeps_returned,
        )

    # --- what predictors are conditioned on ---------------------------------------------------------------

    def signal(self, name: str) -> ContextSpec:
        """A signal of the environment as a predictor reads it."""
        signal = self.env.all_signals[name]
        return ContextSpec(name, signal.shape, signal.classes)

    def _cycle(self, spec: ChannelSpec) -> StepWindows | None:
        """The steps after which the windows of all agents that a channel's messages reach repeat; None: they have no phase.

        That is where they never repeat, at each tick of the sender, or after too many.
        """
        windows = self.scenario.relations.ahead[spec.receiver].windows
        lengths = [self.env.episode_steps if window == "episode" else window for window in windows]
        period = self.agents[spec.sender].clock.tick_period
        steps = math.lcm(period, *(length for length in lengths if length is not None))
        if None in lengths or not 1 < steps // period <= _LONGEST_CYCLE:
            return None
        return StepWindows(steps, self.agents[spec.sender].clock.phase)

    def _context(
        self, spec: ChannelSpec, names: Iterable[str], endpoints: tuple[str, ...], shape: Shape
    ) -> tuple[PredictorContext, tuple[ContextSpec, ...]]:
        """What a predictor sees of signals and of `endpoints`, also as it takes them, one after the other."""
        signals, of_ends, windows = list[ContextSpec](), list[ContextSpec](), dict[str, WindowGrid | None]()
        for name in names:
            if name not in endpoints:
                signals.append(self.signal(name))
                continue
            measure, agent = ENDPOINT_VALUES[name].measure, ENDPOINT_VALUES[name].agent_of(spec)
            windows[name], size, classes = None, shape, None
            if measure is Measure.NUMBER:
                size = ()
            elif measure is Measure.PHASE:
                grid = windows[name] = self._cycle(spec) if name == PHASE else self.group_of[agent].grid
                assert grid is not None
                size, classes = (), grid.max_ticks(self.agents[agent].clock.tick_period)
            elif measure is not Measure.MESSAGE:
                size = (self._state_size(agent),)
                if size == (0,):
                    message = f"'{name}': the agent has no state: its module has no state_size; leave it out"
                    raise DocumentError(("channels", spec.name, "gradient", "context"), message)
            of_ends.append(ContextSpec(name, size, classes))
        return PredictorContext(tuple(signals), windows), (*signals, *of_ends)

    def _state_size(self, agent: str) -> int:
        return self.agents[agent].learner.network.state_size

    # --- predictors ---------------------------------------------------------------------------------------

    def _predictor(
        self, spec: ChannelSpec, shape: Shape, context: tuple[ContextSpec, ...], target: str | None
    ) -> Predictor:
        gradient = spec.gradient
        own_target = None if target is None else self.signal(target)
        settings = self._settings(spec, spec.sender, "gradient", gradient)
        if target is not None and (criterion := self._criterion(spec, target)) is not None:
            settings["criterion"] = criterion
        settings["gated"] = self.scenario.relations.gated(spec)
        with within(("channels", spec.name)):
            return predictor_of(gradient, shape, context, target=own_target, **settings)

    def _criterion(self, spec: ChannelSpec, target: str) -> Objective | None:
        """The objective that learns a target, the receiver's if it does; None: none but plain ones."""
        agents = self.scenario.agents
        for name in (spec.receiver, *agents):
            for path, goal in agents[name].objectives.items():
                if goal.target == target and not goal.of_network:
                    objective = objective_of(
                        goal.kind, goal.options, ".".join(("agents", name, *map(str, path)))
                    )
                    return None if objective.is_plain else objective
        return None

    def _settings(
        self, channel: ChannelSpec, end: str, key: str, spec: GradientSpec | InputSpec
    ) -> dict[str, Any]:
        """What every kind of predictor takes; `end`: the agent where it is computed."""
        optimiser, rate = optimiser_of(spec.optimiser or self.scenario.training.predictor, self.scenario)
        return {
            "generator": generator(self.seed, "channel", channel.name, key),
            "optimiser": optimiser,
            "rate": rate,
            "frozen": not spec.learn,
            "device": self.device_of(end),
            "dtype": self.dtype,
            "owner": f"channels.{channel.name}",
        }

    def _synthetic_input(self, spec: ChannelSpec, model: InputSpec, shape: Shape) -> SyntheticInput:
        context, specs = self._context(spec, model.context, INPUT_ENDPOINTS, shape)
        settings = self._settings(spec, spec.receiver, "input", model)
        with within(("channels", spec.name)):
            input_model = input_of(model, shape, specs, **settings)
        return SyntheticInput(input_model, context)
