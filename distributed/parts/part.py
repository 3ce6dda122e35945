"""A part: the share of a scenario's agents that one process computes, with its halves of the channels that are cut.

All parts step replicas of one environment and follow one schedule. What crosses a cut channel arrives before it is read
(`Boundary`), so that each part computes the bits of the uncut run; the states of all parts make up its state
(`merge_states`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from antiphon.distributed.parts.boundary import Boundary
from antiphon.distributed.parts.cut import Exchange
from antiphon.distributed.parts.free_boundary import FreeBoundary
from antiphon.distributed.parts.placement import Placement, lookahead_of
from antiphon.distributed.parts.share import Share, part_of, scenario_of_part
from antiphon.engine.backends import StackedBackend, step_once
from antiphon.engine.build.builder import build, without_weights
from antiphon.engine.environment import EnvironmentRunner, environment_state, signals_of, signals_read
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.system import System
from antiphon.engine.metrics.newest import LogSteps, NewestMetrics
from antiphon.engine.metrics.report_by_agent import AgentReport, MeanAccumulator
from antiphon.engine.metrics.step_metrics import Row, keep_metrics
from antiphon.engine.state.trees import Tree
from antiphon.envs import registry
from antiphon.nets.devices import chosen_device
from antiphon.nets.plain_trees import from_tree
from antiphon.scenarios import Scenario
from antiphon.telemetry.metrics import end_of


class PartRow(NamedTuple):
    """What a part records of a step: of its agents, and of the channels that they send over."""

    row: Row
    sums: dict[str, Any]
    """Sums of the losses since the row before (`MeanAccumulator.state_dict`)."""


class Part:
    """One part of a scenario's agents.

    Args:
        free: Whether it waits for nothing but messages that an agent is aligned to, as in virtual time; else in lockstep.
        system: All agents, shared with the other parts of this process (`halved`); None: they are built for this part, with
            parameters of its own agents only.

    Attributes:
        lookahead: Steps that it may be ahead of its neighbours.
        free: What arrives where it does not wait for them; None: lockstep.
    """

    def __init__(
        self,
        scenario: Scenario,
        placement: Placement,
        index: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        stacked: bool = True,
        free: bool = False,
        system: System | None = None,
    ) -> None:
        self.index, self.seed = index, seed
        self.scenario = scenario
        on_device = chosen_device(device)
        self._env = registry.make(scenario.env, batch=scenario.training.batch, device=on_device, dtype=dtype)
        if system is None:
            numbers: dict[str, Any] = {"seed": seed, "device": on_device, "dtype": dtype}
            own_agents = {name for name, part in placement.items() if part == index}
            own_scenario = scenario_of_part(without_weights(scenario), placement, index)
            system = build(own_scenario, self._env.description, local_agents=own_agents, **numbers)
        part_system, self.share = part_of(system, placement, index), Share.of(system, placement, index)
        self.backend = StackedBackend(system, stacked=stacked, part=part_system)
        remote_parts = part_system.remote_parts
        travelling = travelling_signals(system, remote_parts, free=free)
        self.lookahead = 1 if free else lookahead_of(system, placement)
        cut = self.backend.system, remote_parts, index, travelling, self.lookahead
        self.free = FreeBoundary(*cut) if free else None
        self.boundary = self.free or Boundary(*cut)
        self.neighbours = self.boundary.neighbours
        self.world = EnvironmentRunner(self._env, signals_read(system), seed)
        part_system.schedule.begin_episode(0, self._env.episode_length)
        self.train_means, self.newest = MeanAccumulator(part_system), NewestMetrics(part_system)
        self.learned = AgentReport.empty(self.backend.stacked)
        self.row: PartRow | None = None
        self.now = 0

    # --- stepping ------------------------------------------------------------------------------------------

    def waits_for(self) -> tuple[int, ...]:
        return self.boundary.waits_for(self.now)

    def step(self, log_steps: LogSteps | None = None, *, watch: Watch = False) -> None:
        """Take one environment step (semantics 13).

        Args:
            log_steps: The steps at which metrics are recorded, in `row` where this is one; None: none. They change no number.
            watch: Whether, or of which channels, predictions are kept in `learned`; for metrics they are.

        Raises:
            DivergenceError: A loss or gradient was not finite. No parameter of this part has been touched by this step.
        """
        step = self.now
        recorded = log_steps is not None and log_steps.due(step)
        watched = frozenset() if log_steps is None else self.newest.watched(step, log_steps)
        self.learned = AgentReport.empty(self.backend.stacked)  # as large as the parameters
        self.boundary.enter(step, self.world.step_signals)
        keeps_predictions = watch or recorded or watched
        note = partial(self.boundary.note, step)
        _, self.learned = step_once(
            self.backend, self.world, self.train_means, step, confirm=note, watch=keeps_predictions
        )
        self.now = step + 1
        self.row = None
        if watched:
            keep_metrics(self, step, watched)
        if log_steps is not None and recorded:
            self.backend.synchronize()
            self.row = self._row(step, sampled=log_steps.sampled(step))

    def _row(self, step: int, *, sampled: bool) -> PartRow:
        row = Row.of(self, step, sampled=sampled)
        own = [metric for metric in row.metrics if self._is_own(metric.kind, metric.name, metric.metric)]
        samples = [sample for sample in row.samples if self._is_own("channel", sample[0], "message")]
        sums = self.train_means.state_dict()
        self.train_means.end_row()
        self.newest.end_row()
        return PartRow(row._replace(metrics=own, samples=samples), sums)

    def _is_own(self, kind: str, name: str, metric: str) -> bool:
        """Whether a metric is this part's: it has the agent, or the end of a channel that the metric is of."""
        base = self.backend.stacked.single_system
        return (name if kind == "agent" else getattr(base.channels[name], end_of(metric))) in base.agents

    def collect(self, neighbour: int) -> Exchange:
        return self.boundary.collect(neighbour, self.now)

    def deliver(self, exchange: Exchange) -> None:
        """Take what a neighbour has collected for this part: all its exchanges, in order."""
        self.boundary.deliver(exchange, self.now)
        self.backend.move_on()

    # --- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> Tree:
        """Return its share of the whole's state, without copying a tensor; see `merge_states`.

        All that was sent before the present step must have been delivered, here and at the neighbours. It raises DivergenceError
        where the device has found a number that is not finite.
        """
        self.backend.synchronize()
        return {
            **environment_state(self._env),
            **({} if self.index == 0 else {"env": None}),
            "now": self.now,
            "seed": self.seed,
            "diverged": None,
            **self.world.state_dict(),
            "means": self.train_means.state_dict(),
            "newest": {
                kind: {
                    name: {
                        metric: value for metric, value in metrics.items() if self._is_own(kind, name, metric)
                    }
                    for name, metrics in metrics_by_name.items()
                }
                for kind, metrics_by_name in self.newest.state_dict().items()
            },
            "system": self.backend.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take its share of the state of a whole simulation of the same scenario (`Share.state`).

        All that is on its way between parts is in that state: every part takes its share of the same one. Its tensors are used as
        they are, so hand in copies.
        """
        self.now = state["now"]
        self._env.load_state_dict(from_tree(state["env"]))
        self.backend.load_state_dict(state["system"])
        self.boundary.reset(self.now)
        self.world.load_state_dict(state)
        self.train_means = MeanAccumulator(self.backend.stacked.single_system)
        self.train_means.load_state_dict(state["means"])
        self.newest.load_state_dict(state.get("newest", {}))

    def close(self) -> None:
        self._env.close()


def travelling_signals(system: System, cut: Iterable[str], *, free: bool) -> dict[str, tuple[str, ...]]:
    """Return by cut channel the names of the signals that travel with its messages: what aligned agents need of an example.

    An aligned sender works on an example of an earlier step. In parts that do not wait any sender may be at another step.
    """
    aligned = [agent for agent in system.agents.values() if agent.inputs.align_channel_name is not None]
    needed = set[str]().union(*map(signals_of, aligned))
    signals = {}
    for channel in map(system.channels.__getitem__, cut):
        sender, receiver = system.agents[channel.sender], system.agents[channel.receiver]
        reads_in_turn = receiver.inputs.align_channel_name == channel.name
        if sender.inputs.align_channel_name is not None or (free and reads_in_turn):
            conditions = {spec.name for spec in channel.synthetic_input.context.signal_specs}
            signals[channel.name] = tuple(sorted(needed | conditions))
    return signals


def merge_rows(rows: Sequence[PartRow], scenario: Scenario, channels: Sequence[str]) -> PartRow:
    """Return what all parts record of a step as the whole does; `channels`: all, states too, in canonical order."""
    subjects = [*(("agent", name) for name in scenario.agents), *(("channel", name) for name in channels)]
    place = {subject: number for number, subject in enumerate(subjects)}
    readouts_first = sorted(scenario.channels, key=lambda channel: channel.receiver not in scenario.readouts)
    sampled = [channel.name for channel in readouts_first]
    merged = PartRow(Row([], [], rows[0].row.env, {}), {})
    for part_row in rows:
        merged.row.metrics.extend(part_row.row.metrics)
        merged.row.samples.extend(part_row.row.samples)
        merged.row.returns.update(part_row.row.returns)
        merged.sums.update(part_row.sums)
    merged.row.metrics.sort(key=lambda m: (place[m.kind, m.name], end_of(m.metric) == "receiver"))
    merged.row.samples.sort(key=lambda sample: sampled.index(sample[0]))
    return merged
