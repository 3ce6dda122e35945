"""A simulation whose agents run on the machines of a cluster profile, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from antiphon.engine.base_simulation import StepInfo
from antiphon.engine.build.builder import build, without_weights
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.core.system import System
from antiphon.engine.core.updates import StepReport
from antiphon.engine.parts.boundary import Exchange
from antiphon.engine.parts.free_boundary import FreeBoundary, FreeFigures, FreeSettings, packed, unpacked
from antiphon.engine.parts.halves import halved
from antiphon.engine.parts.part import Part
from antiphon.engine.parts.placement import (
    check_divisible,
    check_free,
    check_placement,
    partition,
    unaligned_readers,
    units_of,
)
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.run_writer import open_writer
from antiphon.engine.simulation import Simulation, given_scenario
from antiphon.engine.state.checkpoint import Saved, copy_tree, read_simulation, write_simulation
from antiphon.engine.state.compatibility import check_compatible
from antiphon.engine.state.state_dict import snapshot
from antiphon.engine.step.backends import StackedBackend
from antiphon.engine.step.report import AgentReport, MeanAccumulator
from antiphon.engine.virtual.cluster import VirtualCluster
from antiphon.engine.virtual.profile import ClusterProfile, find_profile
from antiphon.engine.virtual.step_seconds import seconds_of_steps
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.nets.memory import uncollected
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.spec import plain
from antiphon.telemetry.figures import Figure
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["VirtualSimulation"]


class VirtualSimulation(Simulation):
    """A scenario on a cluster that is only described: parts that do not wait, in the order that virtual time gives.

    One of its steps is as many steps of its parts as there are parts: `now` is the mean over parts of the steps taken, those
    that a failure has undone included. `seconds` is the simulated time. All else is as of `Simulation`: figures, run
    directories, checkpoints, evaluation; a checkpoint holds all that is on its way.

    Args:
        scenario: As of `Simulation`.
        profile: A cluster profile, the name of one that antiphon brings along, or a YAML file.
        placement: The part of each agent; part i runs on machine i. A number: as many parts, of equal work. None: every set
            of agents that cannot be separated is a part, or as many as there are machines.
        seed: Of everything that is drawn, chance on the cluster included.
        device: Where the numbers live.
        dtype: Of all floats.
        free: Bounds of the exchange.
        step_seconds: Of each part, without chance; None: as the profile says. With `measure` it is timed, once.
        logdir: As of `Simulation`.
        checkpoint_every: As of `Simulation`.

    Raises:
        ScenarioError: The profile is not accepted, or the scenario cannot be cut, or not for parts that do not wait.
        DataError: Its environment's data are missing or broken.
        RunError: `logdir` cannot be written.
        ResourceError: It needs more memory than there is.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path,
        profile: ClusterProfile | str | Path,
        placement: Mapping[str, int] | int | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        free: FreeSettings | None = None,
        step_seconds: list[float] | None = None,
        logdir: str | Path | None = None,
        checkpoint_every: int | None = None,
        threads: int = 1,
    ) -> None:
        self.profile = profile if isinstance(profile, ClusterProfile) else find_profile(profile)
        self.free = free or FreeSettings()
        self._parts: list[Part] = []
        super().__init__(scenario, seed=seed, device=device, dtype=dtype, threads=threads, stacked=False)
        try:
            self._check()
            self.placement = self._place(placement)
            self._step_seconds = step_seconds
            self._open()
            if logdir is not None:
                facts = {"parts": self.division, "virtual": self.facts}
                self._writer = open_writer(self, Path(logdir), checkpoint_every, **facts)
        except BaseException:
            self.close()
            raise

    # --- parts -------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise ScenarioError where parts that do not wait could not run the scenario."""
        if self.scenario.telemetry.value is not None:
            raise ScenarioError(
                "telemetry.value: is measured in forks of a whole simulation; leave it out in virtual time"
            )
        check_divisible(self.system, self.scenario)
        check_free(self.system)

    def _place(self, placement: Mapping[str, int] | int | None) -> dict[str, int]:
        system = self.system
        if isinstance(placement, Mapping):
            check_placement(system, placement)
            found = dict(placement)
        else:
            most = min(len(system.agents), self.profile.size)
            # Where nothing can be separated, a division by two is refused with the reason.
            count = max(min(len(units_of(system)), most), min(2, most)) if placement is None else placement
            found = partition(system, self.scenario, count)
        if max(found.values()) >= self.profile.size:
            self.profile.machine(max(found.values()))
        return found

    def _open(self) -> None:
        """Make the parts, as they are before the first step, and the view of all of them."""
        whole = self.system
        settings: dict[str, Any] = {"seed": self.seed, "device": self.device, "dtype": self.dtype}
        count = max(self.placement.values()) + 1
        own = build(without_weights(self.scenario), self._env.description, **settings)
        settings["whole"] = halved(own, self.placement)
        self._parts = [self._part(number, **settings) for number in range(count)]
        if self._step_seconds is None:
            make = partial(self._part, **settings | {"whole": None})
            self._step_seconds = seconds_of_steps(whole, self.placement, self.profile, make)
        exchange = packed, unpacked
        self.cluster: VirtualCluster[Exchange] = VirtualCluster(
            self.profile, self._parts, self._step_seconds, self.seed, *exchange
        )
        self._at_start, self._present = snapshot(whole), dict(self.world.step_signals.signals)
        self._newest: dict[int, AgentReport] = {}
        self._before = FreeFigures()
        self.world = self._parts[0].world
        self.backend = StackedBackend(self._view(whole), stacked=False)
        self.learned = AgentReport.empty(self.backend.stacked)
        self.train_means = MeanAccumulator(self.backend.system)

    def _part(self, number: int, **settings: Any) -> Part:
        part = Part(self.scenario, self.placement, number, stacked=False, free=self.free, **settings)
        if any(agent.weights is not None for agent in self.scenario.agents.values()):
            part.load_state_dict(super().state_dict())
        return part

    def _view(self, whole: System) -> System:
        """Return all parts' own agents, and the halves of their channels that learn, as one system, which takes no steps."""
        systems = [part.backend.per_agent() for part in self._parts]
        agents = {name: systems[self.placement[name]].agents[name] for name in whole.agents}
        channels = {name: self._channel(systems, channel) for name, channel in whole.channels.items()}
        groups = [
            systems[self.placement[group.members[0]]].group_of[group.members[0]] for group in whole.groups
        ]
        return replace(whole, agents=agents, channels=channels, groups=groups)

    def _channel(self, systems: list[System], channel: Channel) -> Channel:
        """Return a channel as its sender's part has it; a synthetic input is its receiver's."""
        sent, received = (
            systems[self.placement[end]].channels[channel.name] for end in (channel.sender, channel.receiver)
        )
        return (
            sent
            if sent is received or sent.input is None
            else replace(sent, input=received.input, members=())
        )

    @property
    def division(self) -> dict[str, Any]:
        """Its parts as run.json has them, the `placement` of agents among it."""
        count = len(self._parts)
        return {
            "count": count,
            "placement": dict(self.placement),
            "transport": "virtual",
            "mode": "free",
            "every": 1,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of the cluster, so that the run can be resumed: profile, bounds, and seconds of the steps."""
        return {
            "profile": plain(self.profile),
            "free": asdict(self.free),
            "step_seconds": self.cluster.step_seconds,
        }

    @property
    def warnings(self) -> list[str]:
        """What parts that do not wait may make of the scenario, a line each."""
        return [
            f"agents[{name}]: reads from another part, which does not wait, and works on the example of its own step; an "
            "example has to last for longer than parts drift apart, or add `align: true`"
            for name in unaligned_readers(self.system, self.placement)
        ]

    # --- stepping ----------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Simulated seconds."""
        return self.cluster.seconds

    @property
    def events(self) -> list[tuple[int, str]]:
        """What was clipped in any part, by the part's own steps, and what was changed: (step, one line)."""
        found = [event for part in self._parts for event in part.backend.per_agent().divergence.events]
        return sorted(dict.fromkeys(found), key=lambda event: event[0])

    def reset(self, seed: int | None = None) -> StepInfo:
        """Start again from step 0 with fresh parameters; without a seed, from the present one."""
        info = super().reset(seed)
        self._close_parts()
        self._open()
        return info

    def step(self) -> StepInfo:
        """Take as many steps of parts as there are parts, and return what happened; raises as its base."""
        step, watch = self.now, self.watching(self.now)
        info = super().step()
        if watch:
            rows = [Figure("run", "", name, value) for name, value in self.figures().items()]
            parts = self.part_figures()
            for recorder in self.recorders:
                recorder.figures(step + 1, rows)
                recorder.parts(step + 1, parts)
        return info

    def advance(self, *, watch: bool = False, keep: bool = True) -> EnvMask:
        """Take as many steps of parts as there are parts, in the order of virtual time; nothing is recorded.

        Raises:
            DivergenceError: A loss or gradient of a part was not finite.
            RunError: Every part waits for another one.
        """
        del keep  # a part keeps what its next step reads
        if self.diverged is not None:
            raise DivergenceError(self.diverged)
        target = (self.now + 1) * len(self._parts)
        try:
            while self.cluster.steps_taken < target:
                number = self.cluster.advance(watch=watch)
                if number is not None:
                    self._newest[number] = self._parts[number].learned
                    self.train_means.add(self._newest[number])
        except DivergenceError as error:
            self.diverged = str(error)
            raise
        self.learned = self._joined()
        self.now += 1
        return False

    def _joined(self) -> AgentReport:
        """Return what each part has learned at its newest step."""
        reports = [report.stacks for _, report in sorted(self._newest.items())]
        joined = StepReport([update for report in reports for update in report.updates], {})
        for report in reports:
            joined.predictor_updates.update(report.predictor_updates)
            joined.input_updates.update(report.input_updates)
        return AgentReport(joined, self.backend.stacked)

    def figures(self) -> dict[str, float]:
        """Return the run's figures of virtual time.

        `simulated_seconds`; `goodput`: the share of the machines' time in which they computed steps that count; `waiting`
        and `away`: the shares in which they waited for a message, or had failed; `traffic`: bytes sent so far, `calls`,
        and the share of them that was lost; `gradient_age`: steps from a message to the one that learns from what came
        back for it, `given_up`: the share of messages for which nothing did, and `missed`: ticks without a new message,
        these since the figures before.
        """
        cluster, machines = self.cluster, self.cluster.machines
        goodput = cluster.goodput
        time = len(machines) * cluster.seconds or 1.0
        calls = sum(machine.calls for machine in machines)
        now = self._exchanged()
        since = {name: value - getattr(self._before, name) for name, value in vars(now).items()}
        self._before = now
        found = {
            "simulated_seconds": cluster.seconds,
            "goodput": goodput,
            "waiting": sum(sum(machine.waiting.values()) for machine in machines) / time,
            "away": sum(machine.away for machine in machines) / time,
            "traffic": float(sum(machine.bytes_sent for machine in machines)),
            "calls": float(calls),
            "calls_lost": sum(machine.calls_lost for machine in machines) / (calls or 1),
            "missed": float(since["missed"]),
        }
        if since["returned"]:
            found["gradient_age"] = since["staleness"] / since["returned"]
            found["given_up"] = since["given_up"] / (since["given_up"] + since["returned"])
        return found

    def part_figures(self) -> list[PartFigures]:
        """Return what each part has computed, waited for and sent; seconds are simulated."""
        return self.cluster.statistics()

    def _exchanged(self) -> FreeFigures:
        """Return the totals of all parts' exchanges."""
        total = FreeFigures()
        for part in self._parts:
            assert isinstance(part.boundary, FreeBoundary)
            for name, value in vars(part.boundary.figures).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    def set(self, key: str, value: object) -> None:
        """Refuse: a run in virtual time keeps its settings."""
        raise ScenarioError(f"set: {key} cannot change in virtual time; start a run with the other value")

    # --- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, that of the cluster included, without copying a tensor.

        What is learned is where the state of any simulation has it, so that it can be evaluated and exported as one.
        """
        learned = snapshot(self.backend.per_agent())
        system = {
            **self._at_start,
            **{key: learned[key] for key in ("learners", "predictors", "inputs", "outliers")},
            "quarantine": {**self._at_start["quarantine"], "events": [list(event) for event in self.events]},
        }
        return {
            "env": None,
            "now": self.now,
            "seed": self.seed,
            "diverged": self.diverged,
            "present": dict(self._present),
            "elapsed": 0,
            "tally": self.train_means.state_dict(),
            "system": system,
            "virtual": {
                "placement": dict(self.placement),
                "before": vars(self._before),
                "cluster": self.cluster.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same scenario, placement and profile.

        Raises:
            RunError: It is of another scenario or placement, or not of virtual time; nothing has changed.
        """
        virtual = state.get("virtual")
        if virtual is None:
            raise RunError(
                "this is the state of a simulation that is not in virtual time; run it without --cluster"
            )
        check_compatible(self.system, self._present, state["system"], state["present"])
        if virtual["placement"] != self.placement:
            raise RunError("the state is of another placement of the agents; give the one of its run")
        if state["seed"] != self.seed:
            self.reset(state["seed"])
        state = copy_tree(state)
        self.now, self.diverged = state["now"], state["diverged"]
        self.cluster.load_state_dict(state["virtual"]["cluster"])
        self._before = FreeFigures(**state["virtual"]["before"])
        self._newest = {}
        self.train_means = MeanAccumulator(self.backend.system)
        self.train_means.load_state_dict(state["tally"])

    @classmethod
    def of_directory(
        cls,
        directory: RunDirectory,
        scenario: Scenario | Template | str | Path | None = None,
        division: PartsSettings | None = None,
    ) -> Self:
        """Return the simulation of a run at its newest checkpoint, or at step 0 where it has none; it records nothing.

        Raises:
            ScenarioError: `scenario` is not one, or not found.
            RunError: It cannot go on, `scenario` is missing or another one, or other parts are wanted.
            DivergenceError: It diverged and would do so again.
        """
        if division is not None:
            raise RunError(
                f"{directory.path}: a run in virtual time keeps its parts; leave out --parts and --place"
            )
        given, facts = given_scenario(directory, scenario), directory.facts
        try:
            known = facts["virtual"]
            settings: dict[str, Any] = {
                "profile": ClusterProfile(**known["profile"]),
                "placement": facts["parts"]["placement"],
                "free": FreeSettings(**known["free"]),
                "step_seconds": known["step_seconds"],
                "device": facts["device"],
                "threads": facts["threads"],
            }
        except (KeyError, TypeError, ScenarioError):
            raise RunError(
                f"{directory.path / 'run.json'}: 'virtual' is damaged; start the run anew"
            ) from None
        if directory.checkpoints:
            saved = read_simulation(directory.path, given, facts["device"])
            settings |= {"seed": saved.seed, "dtype": saved.dtype}
            return cls._restored(saved.scenario, lambda one: one.load_saved(saved), **settings)
        dtype = getattr(torch, facts["dtype"])
        return cls(given or directory.scenario, seed=facts["seed"], dtype=dtype, **settings)

    def load_saved(self, saved: Saved) -> None:
        """Take over the state of a checkpoint; raises as its base."""
        super().load_saved(saved)
        self.obstacle = None

    def fork(self, backend: str | None = None, *, stacked: bool = True) -> Self:
        """Return a copy that goes on by itself in virtual time, unrecorded; its backend is always the same."""
        del backend, stacked
        twin = type(self)(
            self.scenario,
            self.profile,
            self.placement,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            free=self.free,
            step_seconds=self._step_seconds,
            threads=self.threads,
        )
        twin.load_state_dict(self.state_dict())
        return twin

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint folder, whole or not at all, and return its path; RunError where it cannot be written."""
        with uncollected():
            return write_simulation(Path(path), self.scenario, self.dtype, self.state_dict(), self.described)

    def close(self) -> None:
        """Close recorders and environments; a second call does nothing."""
        try:
            super().close()
        finally:
            self._close_parts()

    def _close_parts(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []
