"""A simulation whose agents run on the machines of a cluster profile, in virtual time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.files import given_path
from antiphon.base.spec import plain
from antiphon.engine.backends import BackendFactory, StackedBackend
from antiphon.engine.base_simulation import StepInfo, check_continues
from antiphon.engine.build.builder import build, without_weights
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.metrics.figures import log_figures
from antiphon.engine.metrics.report import AgentReport, MeanAccumulator
from antiphon.engine.parts.free_boundary import FreeBoundary, FreeFigures, FreeSettings
from antiphon.engine.parts.halves import halved
from antiphon.engine.parts.part import LEARNED, Part
from antiphon.engine.parts.placement import (
    agent_costs,
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
from antiphon.engine.simulation import Simulation, check_interval
from antiphon.engine.state.checkpoint import Saved, copy_tree
from antiphon.engine.state.compatibility import check_compatible
from antiphon.engine.state.objects import check_kept, lost_state
from antiphon.engine.state.state_dict import snapshot
from antiphon.engine.virtual.cluster import VirtualCluster
from antiphon.engine.virtual.profile import ClusterProfile, find_profile
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.scenarios import Scenario, Template
from antiphon.telemetry.figures import Figure

_TIMED_STEPS = 24
"""Of each part whose machine's profile says `measure`."""


class VirtualSimulation(Simulation):
    """A scenario on a simulated cluster: parts in free mode, in the order of virtual time.

    One step is as many steps of parts as there are parts: `now` is the mean number of steps taken per part, including steps
    that a failure has undone. `seconds` is the simulated time. Everything else works as in `Simulation`: metrics, run
    directories, checkpoints, evaluation. A checkpoint holds all exchanges on their way.

    Args:
        scenario: See `Simulation`.
        profile: A cluster profile, the name of one of antiphon's own, or a YAML file.
        placement: The part of each agent; part i runs on machine i. A number: that many parts, of equal work. None: every set
            of agents that cannot be separated is a part, or as many parts as there are machines.
        seed: Seed of all random numbers, including those of the cluster.
        free: Bounds of the exchange.
        step_seconds: Seconds per step of each part, without chance; None: from the profile. With `measure` it is timed, once.
        device, dtype, logdir, checkpoint_every, threads: See `Simulation`.

    Raises:
        ScenarioError: The profile is invalid, or the scenario cannot be divided, or not in free mode.
        DataError: Data of the environment are missing or damaged.
        RunError: `logdir` cannot be written.
        ResourceError: There is not enough memory.
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
        check_interval(checkpoint_every, logdir)
        self.profile = profile if isinstance(profile, ClusterProfile) else find_profile(profile)
        self.free = free or FreeSettings()
        self._parts: list[Part] = []
        super().__init__(scenario, seed=seed, device=device, dtype=dtype, threads=threads, stacked=False)
        try:
            self.placement = self._place(placement)
            self._step_seconds = step_seconds
            self._open()
            if logdir is not None:
                facts = {"parts": self._division, "virtual": self.facts}
                self._writer = open_writer(self, given_path(logdir, "logdir"), checkpoint_every, facts)
        except BaseException:
            self.close()
            raise

    # --- parts -------------------------------------------------------------------------------------------

    def _place(self, placement: Mapping[str, int] | int | None) -> dict[str, int]:
        """Return the part of each agent, where parts that do not wait can run the scenario."""
        system = self._system
        if self.scenario.telemetry.value is not None:
            problem = "is measured in forks of a whole simulation; leave it out in virtual time"
            raise ScenarioError(f"telemetry.value: {problem}")
        check_divisible(system, self.scenario)
        if isinstance(placement, Mapping):
            check_placement(system, placement)
            placement = dict(placement)
        else:
            # where nothing can be separated, a division by two is refused with the reason
            if placement is None:
                most = min(len(system.agents), self.profile.size)
                placement = max(min(len(units_of(system)), most), min(2, most))
            placement = partition(system, self.scenario, placement)
        if any(placement.values()):
            check_free(system)
        return placement

    def _open(self) -> None:
        """Make the parts, as they are before the first step, and the view of all of them."""
        whole, count = self._system, max(self.placement.values()) + 1
        settings: dict[str, Any] = {"seed": self.seed, "device": self.device, "dtype": self.dtype}
        if self._step_seconds is None:
            costs = agent_costs(whole)
            self._step_seconds = [self._seconds_of(part, costs, **settings) for part in range(count)]
        own = build(without_weights(self.scenario), self._env.description, **settings)
        settings["whole"] = halved(own, self.placement)
        self._parts = [self._part(number, **settings) for number in range(count)]
        self.cluster = VirtualCluster(self.profile, self._parts, self._step_seconds, self.seed)
        self._at_start, self._present = snapshot(whole), dict(self.world.step_signals.signals)
        self._newest: dict[int, AgentReport] = {}
        self._before = FreeFigures()
        self._world = self._parts[0].world
        self.backend = StackedBackend(self._view(whole), stacked=False)
        self.learned = AgentReport.empty(self.backend.stacked)
        self._train_means = MeanAccumulator(self.backend.system)

    def _part(self, number: int, **settings: Any) -> Part:
        part = Part(self.scenario, self.placement, number, stacked=False, free=self.free, **settings)
        if any(agent.parameters is not None for agent in self.scenario.agents.values()):
            part.load_state_dict(super()._state_dict())
        return part

    def _seconds_of(self, number: int, costs: Mapping[str, float], **settings: Any) -> float:
        """Return the seconds of a part's step, without chance: by FLOP as the profile says, or timed on this machine."""
        compute = self.profile.machine(number).compute
        flop = sum(cost for name, cost in costs.items() if self.placement[name] == number)
        found, times = compute.seconds(flop), []
        if compute.measure:
            with closing(self._part(number, **settings)) as part:
                for _ in range(_TIMED_STEPS):
                    start = time.perf_counter()
                    part.step()
                    for neighbour in part.neighbours:  # on messages of zeros
                        part.collect(neighbour)
                    times.append(time.perf_counter() - start)
            found = statistics.median(times)
        if not found > 0:
            problem = (
                f"a step of part {number} takes no time at {compute.flop:g} s per FLOP; give compute.step"
            )
            raise ScenarioError(f"{self.profile.cluster}: {problem}")
        return found

    def _view(self, whole: System) -> System:
        """Return all parts' own agents, and the halves of their channels that learn, as one system, which takes no steps."""
        systems = [part.backend.per_agent() for part in self._parts]

        def home(agent: str) -> System:
            return systems[self.placement[agent]]

        def channel(one: Channel) -> Channel:
            sent, received = home(one.sender).channels[one.name], home(one.receiver).channels[one.name]
            if sent is received or sent.input is None:
                return sent
            return replace(sent, input=received.input, members=())  # a synthetic input is its receiver's

        agents = {name: home(name).agents[name] for name in whole.agents}
        channels = {name: channel(one) for name, one in whole.channels.items()}
        groups = [home(group.members[0]).group_of[group.members[0]] for group in whole.groups]
        return replace(whole, agents=agents, channels=channels, groups=groups)

    @property
    def _division(self) -> dict[str, Any]:
        """Its parts as run.json has them, the `placement` of agents among it."""
        return {"count": len(self._parts), "placement": dict(self.placement), "mode": "free"}

    @property
    def facts(self) -> dict[str, Any]:
        """The cluster as run.json has it, so that the run can be resumed: profile, bounds, and seconds of the steps."""
        seconds = self.cluster.step_seconds
        return {"profile": plain(self.profile), "free": asdict(self.free), "step_seconds": seconds}

    @property
    def warnings(self) -> list[str]:
        """One line for each agent that may learn from messages of other examples."""
        return [
            f"agents[{name}]: reads from another part, which does not wait, and works on the example of its own step; an "
            "example has to last for longer than parts drift apart, or add `align: true`"
            for name in unaligned_readers(self._system, self.placement)
        ]

    # --- stepping ----------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Simulated seconds."""
        return self.cluster.seconds

    @property
    def events(self) -> list[tuple[int, str]]:
        """What was clipped in any part, by the part's own steps: (step, one line)."""
        found = [event for part in self._parts for event in part.backend.per_agent().on_divergence.events]
        return sorted(dict.fromkeys(found), key=lambda event: event[0])

    @in_own_context
    def step(self) -> StepInfo:
        """Take as many steps of parts as there are parts, and return what happened. See `BaseSimulation.step`."""
        step, watch = self.now, self.row_steps.due(self.now)
        info = super().step()
        if watch:
            rows = [Figure("run", "", name, value) for name, value in self.figures().items()]
            log_figures(self, step + 1, rows)
            parts = self.cluster.statistics()
            for recorder in self.recorders:
                recorder.parts(step + 1, parts)
        return info

    def _advance(self, *, watch: Watch = False, keep: bool = True) -> RowMask:
        """Take as many steps of parts as there are parts, in the order of virtual time; nothing is recorded.

        Raises:
            DivergenceError: A loss or gradient of a part was not finite.
            RunError: Every part waits for another one.
        """
        del keep  # a part keeps what its next step reads
        if self.diverged is not None:
            raise DivergenceError(self.diverged)
        check_continues(self)
        target = (self.now + 1) * len(self._parts)
        if self.backend.in_place.taken():
            for part in self._parts:
                part.backend.replay_open_windows()
        try:
            while self.cluster.steps_taken < target:
                number = self.cluster.advance(watch=watch)
                if number is not None:
                    self._newest[number] = self._parts[number].learned
                    self.train_means.add(self._newest[number])
        except DivergenceError as error:
            self.diverged = str(error)
            raise
        joined = StepReport([], {})  # of each part's newest step
        for _, report in sorted(self._newest.items()):
            joined.updates.extend(report.stacks.updates)
            joined.predictor_updates.update(report.stacks.predictor_updates)
            joined.input_updates.update(report.stacks.input_updates)
        self.learned = AgentReport(joined, self.backend.stacked)
        self.backend.in_place.note()
        self.now += 1
        return False

    def figures(self) -> dict[str, float]:
        """Return the run's metrics of virtual time.

        `simulated_seconds`. `goodput`: the share of the machines' time in which they computed steps that count; `waiting`
        and `away`: the shares in which they waited for a message, or had failed. `traffic`: bytes sent so far; `calls`; and
        the share of calls that were lost. Since the previous metrics: `gradient_age`, steps from a message to the step that
        learns from its returned gradient; `given_up`, the share of messages without a returned gradient; and `missed`,
        ticks without a new message.
        """
        cluster, machines = self.cluster, self.cluster.machines
        goodput = cluster.goodput
        seconds = len(machines) * cluster.seconds or 1.0
        calls = sum(machine.calls for machine in machines)
        figures = {
            "simulated_seconds": cluster.seconds,
            "goodput": goodput,
            "waiting": sum(sum(machine.waiting.values()) for machine in machines) / seconds,
            "away": sum(machine.away for machine in machines) / seconds,
            "traffic": float(sum(machine.bytes_sent for machine in machines)),
            "calls": float(calls),
            "calls_lost": sum(machine.calls_lost for machine in machines) / (calls or 1),
        }
        boundaries = [p.boundary for p in self._parts if isinstance(p.boundary, FreeBoundary)]
        names, before = vars(FreeFigures()), vars(self._before)
        self._before = FreeFigures(**{n: sum(vars(one.figures)[n] for one in boundaries) for n in names})
        since = {name: total - before[name] for name, total in vars(self._before).items()}
        figures["missed"] = float(since["missed"])
        if since["returned"]:
            figures["gradient_age"] = since["staleness"] / since["returned"]
            figures["given_up"] = since["given_up"] / (since["given_up"] + since["returned"])
        return figures

    def set(self, key: str, value: object) -> None:
        """Raise ScenarioError: settings cannot change in virtual time."""
        raise ScenarioError(f"set: {key} cannot change in virtual time; start a run with the other value")

    # --- state -------------------------------------------------------------------------------------------

    def _state_dict(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the whole state with that of the cluster, without copying a tensor.

        What is learned is where the state of any simulation has it, so that it can be evaluated and exported as one. RunError
        where an object of the user's keeps a state that it cannot hold, and `whole` asks for all.
        """
        present = self.backend.per_agent()
        learned, lost = snapshot(present), lost_state(present)
        if whole and lost is not None:
            raise RunError(lost)
        system = {
            **self._at_start,
            **{key: learned[key] for key in LEARNED if key in learned},
            "quarantine": {**self._at_start["quarantine"], "events": [list(event) for event in self.events]},
        }
        return {
            "env": None,
            "now": self.now,
            "seed": self.seed,
            "diverged": self.diverged,
            "present": dict(self._present),
            "elapsed": 0,
            "means": self.train_means.state_dict(),
            "system": system,
            **({} if lost is None else {"lost": lost}),
            **self.validation.state_dict(),
            "virtual": {
                "placement": dict(self.placement),
                "before": vars(self._before),
                "cluster": self.cluster.state_dict(),
            },
        }

    def _load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state of the same scenario, placement and profile.

        Raises:
            RunError: It is of another scenario or placement, or not of virtual time; nothing has changed.
        """
        if "virtual" not in state:
            problem = "the state is not from a simulation in virtual time"
            raise RunError(f"{problem}; run it without --cluster")
        check_compatible(self._system, self._present, state["system"], state["present"])
        if state["virtual"]["placement"] != self.placement:
            raise RunError("the state has another placement of the agents; give the placement of its run")
        if state["seed"] != self.seed:
            self._start(state["seed"])
            self._close_parts()
            self._open()
        state = copy_tree(state)
        self.now, self.diverged = state["now"], state["diverged"]
        self.cluster.load_state_dict(state["virtual"]["cluster"])
        self._before = FreeFigures(**state["virtual"]["before"])
        self._newest = {}
        self._train_means = MeanAccumulator(self.backend.system)
        self.train_means.load_state_dict(state["means"])
        self.validation.load_state_dict(state)

    @classmethod
    def _settings_of(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a run's simulation, beside its seed and type, as run.json has them."""
        free = facts["virtual"]["free"]
        return {
            "profile": ClusterProfile(**facts["virtual"]["profile"]),
            "placement": facts["parts"]["placement"],
            "free": FreeSettings(free["queue"], free["staleness"]),
            "step_seconds": facts["virtual"]["step_seconds"],
            "device": facts["device"],
            "threads": facts["threads"],
        }

    def _go_on(self, directory: RunDirectory, division: PartsSettings | None) -> None:
        """Go on with a run; RunError where other parts are wanted."""
        if division is not None:
            raise RunError(f"{directory.path}: a run in virtual time keeps its parts; leave out --parts")

    def _load_saved(self, saved: Saved) -> None:
        """Load the state of a checkpoint; raises as its base."""
        super()._load_saved(saved)
        if "lost" not in saved.state:
            self.obstacle = None

    def fork(self, backend: str | BackendFactory | None = None, *, stacked: bool = True) -> Self:
        """Return a copy in virtual time, without recorders and `logdir`; its backend is always the same."""
        del backend, stacked
        settings: dict[str, Any] = {"seed": self.seed, "device": self.device, "dtype": self.dtype}
        settings |= {"free": self.free, "step_seconds": self._step_seconds, "threads": self.threads}
        check_kept(self.backend.per_agent())  # before the copy calls what it would share
        twin = type(self)(self.scenario, self.profile, self.placement, **settings)
        twin._load_state_dict(self._state_dict())
        return twin

    def _close(self, failure: BaseException | None) -> None:
        try:
            super()._close(failure)
        finally:
            self._close_parts()

    def _close_parts(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []
