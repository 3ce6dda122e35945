"""Execution in virtual time: a scenario whose agents run on the machines of a cluster profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.distributed.flop import agent_flop
from antiphon.distributed.parts.part import Part
from antiphon.distributed.parts.placement import check_divisible, placement_for, units_of
from antiphon.distributed.settings import PartsSettings
from antiphon.distributed.virtual.cluster import VirtualCluster
from antiphon.engine.backends import StackedBackend
from antiphon.engine.build.builder import build, without_weights
from antiphon.engine.heart.ends import Wire
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.live_system import Executor, LiveSystem, Reader
from antiphon.engine.metrics.report_by_agent import AgentReport
from antiphon.engine.metrics.step_metrics import Row
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.state.state_dict import learned_of, snapshot
from antiphon.nets.mask import NONE, Mask
from antiphon.scenarios import Scenario
from antiphon.telemetry.metrics import PartMetrics


class VirtualCoordinator(Executor):
    """Takes steps by parts that do not wait, on the machines of a cluster profile, in the order of virtual time.

    One step is as many steps of parts as there are parts: `LiveSystem.now` is the mean number of steps taken per part.
    """

    stacks = False
    cluster: VirtualCluster

    def __init__(self, settings: PartsSettings) -> None:
        assert settings.cluster is not None
        self.settings, self.profile = settings, settings.cluster
        self._parts: list[Part] = []
        self._placement: Mapping[str, int] = {}

    @property
    def facts(self) -> dict[str, Any]:
        return self.settings.facts(self._placement)

    def attach(self, running: LiveSystem) -> None:
        self.close()
        self._placement = self._placement or self._chosen_placement(running)
        self._open(running)

    # --- parts -------------------------------------------------------------------------------------------

    def _chosen_placement(self, running: LiveSystem) -> dict[str, int]:
        system, count, given = running.system, self.settings.count, self.settings.placement
        check_divisible(system, running.scenario)
        if count is None and given is None:
            # where nothing can be separated, a division by two is refused with the reason
            most = min(len(system.agents), self.profile.size)
            count = max(min(len(units_of(system)), most), min(2, most))
        placement = placement_for(running, count, given)
        if any(placement.values()) and not system.description.endless:
            raise ScenarioError(
                "env: its episodes end, and parts in virtual time are at different steps of them; use a stream of examples"
            )
        return dict(placement)

    def _open(self, running: LiveSystem) -> None:
        system, count = running.system, max(self._placement.values()) + 1
        settings: dict[str, Any] = {
            "seed": running.seed,
            "device": running.settings.device,
            "dtype": running.settings.dtype,
        }
        built = build(without_weights(running.scenario), running.env.description, **settings)
        settings["system"] = halved(built, self._placement)
        # all parts' own agents, and the halves of their channels that learn, as one system, which takes no steps
        view = replace(system, agents=built.agents, channels=built.channels, groups=built.groups)
        self._parts = [self._part(running, number, **settings) for number in range(count)]
        self.cluster = VirtualCluster(
            self.profile, self._parts, self._step_seconds(system, count), running.seed
        )
        self._at_start, self._present = snapshot(system), running.signals
        self._newest: dict[int, AgentReport] = {}
        self._before = Counter[str]()
        running.compute_by(StackedBackend(view, stacked=False), self._parts[0].world)
        running.begin_means()

    def _part(self, running: LiveSystem, number: int, **settings: Any) -> Part:
        part = Part(running.scenario, self._placement, number, stacked=False, free=True, **settings)
        if any(agent.parameters is not None for agent in running.scenario.agents.values()):
            part.load_state_dict(copy_tree(part.share.state(running.own_state(complete=True))))
        return part

    def _step_seconds(self, system: System, count: int) -> list[float]:
        flop = [0.0] * count
        for name, cost in agent_flop(system).items():
            flop[self._placement[name]] += cost
        computes = [self.profile.machine(part).compute for part in range(count)]
        seconds = [compute.step + compute.flop * cost for compute, cost in zip(computes, flop, strict=True)]
        if 0.0 in seconds:
            raise ScenarioError(
                f"{self.profile.cluster}: a step of part {seconds.index(0.0)} takes no time; give compute.step"
            )
        return seconds

    # --- stepping ----------------------------------------------------------------------------------------

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask:
        """Take as many steps of parts as there are parts, in the order of virtual time."""
        target = (running.now + 1) * len(self._parts)
        try:
            while sum(part.now for part in self._parts) < target:
                number = self.cluster.advance(watch=watch)
                if number is not None:
                    part = self._parts[number]
                    self._newest[number] = part.learned
                    running.train_means.add(part.learned)
        except DivergenceError:
            raise
        except BaseException:
            running.closed = True
            raise
        joined = StepReport([], {})  # of each part's newest step
        for _, report in sorted(self._newest.items()):
            joined.updates.extend(report.stacks.updates)
            joined.predictor_updates.update(report.stacks.predictor_updates)
            joined.input_updates.update(report.stacks.input_updates)
            joined.skipped_windows.extend(report.stacks.skipped_windows)
        running.count(AgentReport(joined, running.backend.stacked))
        return NONE

    def recorded(self, running: LiveSystem) -> tuple[Row | None, Sequence[PartMetrics]]:
        """Return no row, as the running scenario has what is learned, and the metrics of the machines."""
        del running
        return None, self.cluster.statistics()

    def metrics(self) -> dict[str, float]:
        cluster, parts = self.cluster, self.cluster.statistics()
        lost = sum(machine.calls_lost for machine in cluster.machines)
        metrics = {
            "simulated_seconds": cluster.seconds,
            "waiting": sum(part.waiting for part in parts) / (len(parts) * cluster.seconds or 1.0),
            "calls_lost": lost / (sum(part.calls for part in parts) or 1),
        }
        since = self._arrived() - self._before
        if since["returned"]:
            metrics["gradient_age"] = since["staleness"] / since["returned"]
        if ended := since["given_up"] + since["returned"]:
            metrics["given_up"] = since["given_up"] / ended
        return metrics

    def end_row(self) -> None:
        self._before = self._arrived()

    def _arrived(self) -> Counter[str]:
        return sum((part.free.totals for part in self._parts if part.free is not None), Counter())

    # --- state -------------------------------------------------------------------------------------------

    def continue_as(self, running: LiveSystem, scenario: Scenario, system: System, event: str | None) -> None:
        raise ScenarioError("a setting cannot change in virtual time; start a run with the other value")

    def state_dict(self, running: LiveSystem, *, complete: bool) -> dict[str, Any]:
        """Return what is learned where the state of any running scenario has it: it can be evaluated and exported, not continued."""
        state = running.own_state(complete=complete)
        system = self._at_start | learned_of(state["system"])
        at_start = {"env": None, "present": dict(self._present), "elapsed": 0, "virtual": True}
        return state | at_start | {"system": system}

    def load_state_dict(self, running: LiveSystem, state: dict[str, Any]) -> None:
        """Raise RunError: what is on its way between parts is in no state."""
        raise RunError("a run in virtual time cannot be continued or forked; start a new one")

    def for_fork(self) -> Executor:
        return VirtualCoordinator(self.settings)

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []


def halved(system: System, placement: Mapping[str, int]) -> System:
    """Give both ends of every cut channel a half of their own, so that parts that share the system share no message.

    Predictors of gradients learn at the sender's half, which the system's channels are; those of messages at the receiver's. The
    system, as built and unstacked, is changed.
    """
    for channel in system.channels.values():
        if placement[channel.sender] != placement[channel.receiver]:
            half = replace(
                channel,
                wire=Wire.of(channel.wire),
                synthetic_gradient=replace(
                    channel.synthetic_gradient, model=deepcopy(channel.synthetic_gradient.model)
                ),
                synthetic_input=replace(channel.synthetic_input, examples=[]),
                members=(),
            )
            incoming = system.agents[channel.receiver].connections.incoming
            incoming[incoming.index(channel)] = half
    return system
