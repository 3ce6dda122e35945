"""Members of one scenario that are stepped together, each with a seed and hyperparameters of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from antiphon.base.errors import DivergenceError, ScenarioError, suggest
from antiphon.base.files import given_path
from antiphon.base.signals import deliver
from antiphon.engine.backends import BackendFactory, backend_of
from antiphon.engine.base_simulation import StepInfo
from antiphon.engine.build.join_replicas import named, sequential_reason_of
from antiphon.engine.build.stacking import reasons_alone
from antiphon.engine.environment import make_environment, with_own_env
from antiphon.engine.metrics.newest import NewestFigures
from antiphon.engine.metrics.report import MeanAccumulator
from antiphon.engine.replicas import Replica, ReplicatedEngine
from antiphon.engine.runs.directory import check_exist, check_free, is_free, numbered
from antiphon.engine.runs.run_loop import RunLoop
from antiphon.engine.simulation import Simulation, history_of_run, steps_to_take
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.state.hyperparameters import differences_of
from antiphon.engine.state.objects import check_apart, check_kept
from antiphon.engine.state.state_dict import learned_of, with_statistics
from antiphon.engine.state.trees import split_rows
from antiphon.envs.worlds.arena import Arena
from antiphon.nets.isolation.matmul_precision import matmul_precision
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.document import as_scenario


class Population:
    """Members of one scenario, each with its own seed and hyperparameters, all stepped at a time.

    Seeds of one scenario are a population in which nothing else differs. Each member computes what it would compute alone, up
    to rounding.

    Args:
        scenario: See `Simulation`; or one for each member, equal but for hyperparameters.
        seeds: One for each member; different ones where the scenario is the same.
        backend: `cohort` steps members together, where that is possible; `native`, or a function (see `Simulation`), one
            after the other.
        logdir: A folder for the members' run directories, `member-0` and so on; None: nothing is written.
        exist: What to do if `logdir` already exists and is not empty (see `Simulation`); `resume` is refused.
        settings: `device`, `dtype`, `threads` and `checkpoint_every` of each `Simulation`.

    Attributes:
        simulations: One for each member, in order.
        sequential_reason: Why they are stepped one after the other; None: they are stepped together.
        threads: Torch's threads in its calls.
        matmul_precision: Torch's precision of matrix products in its calls.

    Raises:
        ScenarioError: No seed, a seed twice, or a scenario that cannot be built; scenarios that differ in more than
            hyperparameters; a setting that a population does not have.
        RunError: `logdir` cannot be written or holds something else.
    """

    @in_own_context
    def __init__(
        self,
        scenario: Scenario | Template | str | Path | Sequence[Scenario],
        seeds: Sequence[int],
        *,
        backend: str | BackendFactory = "cohort",
        logdir: str | Path | None = None,
        exist: str = "number",
        **settings: Any,
    ) -> None:
        _check_settings(settings, exist)
        seeds = list(seeds)
        given = (
            [as_scenario(scenario)] * len(seeds)
            if isinstance(scenario, Scenario | Template | str | Path)
            else list(scenario)
        )
        distinct = set(zip(map(id, given), seeds, strict=False))
        if not seeds or not len(distinct) == len(seeds) == len(given):
            raise ScenarioError(
                f"seeds: got {seeds} for {len(given)} scenarios; give each one, and different ones to equal scenarios"
            )
        for other in given[1:]:
            differences_of(given[0], other)
        reason = "every seed needs one of its own"
        scenarios = [given[0], *(with_own_env(own, reason) for own in given[1:])]
        self.simulations: list[Simulation] = []
        self.threads, self.matmul_precision = int(settings.get("threads", 1)), matmul_precision()
        self._joint: ReplicatedEngine | None = None
        """Of all seeds, diverged ones among them: the others' steps are taken with theirs."""
        self._shared = True
        """Whether environments and means of the simulations are up to date."""
        self._unchecked = True
        """Whether no step has shown yet whether objects of the caller's keep a state, which the members would share."""
        folder = None if logdir is None else _folder(given_path(logdir, "logdir"), exist)
        paths = [None if folder is None else member_path(folder, n, len(seeds)) for n in range(len(seeds))]
        if exist != "overwrite":
            exist = "error"
        settings |= {"backend": backend, "stacked": False, "exist": exist}
        try:
            for own, seed, path in zip(scenarios, seeds, paths, strict=True):
                self.simulations.append(Simulation(own, seed=seed, logdir=path, **settings))
            self.sequential_reason = sequential_reason(self.simulations[0], backend, len(seeds))
            if self.sequential_reason is None:
                self._joint = ReplicatedEngine(
                    [simulation._system for simulation in self.simulations],
                    [simulation._world for simulation in self.simulations],
                )
                for replica, simulation in enumerate(self.simulations):
                    simulation.backend = Replica(self._joint, replica)  # type: ignore[assignment]
                    simulation._update = self._share
                    if simulation._writer is not None:
                        simulation._writer.directory.note(together=seeds)
            elif isinstance(backend, str):
                for simulation in self.simulations:
                    simulation._backend, simulation._stacked = backend, True
                    simulation.backend = backend_of(backend, simulation._system)
        except BaseException:
            self.close()
            raise

    @in_own_context
    def step(self) -> list[StepInfo]:
        """Take one step of all replicas that have not diverged or been stopped, and return its info for each.

        DivergenceError where there is none.
        """
        for simulation in self.simulations:
            if simulation.stop_reason is not None and isinstance(simulation.backend, Replica):
                _leave(simulation, None)
        running = [one for one in self.simulations if one.diverged is None and one.stop_reason is None]
        if not running:
            raise DivergenceError(str(self.simulations[0].diverged))
        infos: list[StepInfo] = []
        joint = self._joint
        if joint is None:
            for simulation in running:
                with suppress(DivergenceError):  # noted in the simulation
                    infos.append(simulation.step())
            if self._unchecked and len(self.simulations) > 1:
                check_apart(*(one.backend.per_agent() for one in self.simulations[:2]))
            self._unchecked = False
            return infos
        step = running[0].now
        if any(simulation.now != step for simulation in running):
            raise ScenarioError("seeds: they are at different steps; load states of the same step into all")
        if joint.loaded:
            self._share()
            joint.join([simulation._train_means.state_dict() for simulation in self.simulations])
        watch = any(simulation.row_steps.due(step) for simulation in self.simulations)
        predicted: set[str] = set()
        for place, simulation in enumerate(self.simulations):
            simulation.watched = simulation.watched_now
            predicted.update(named(name, place) for name in simulation.watched.learning)
        self._shared = False
        ends, learned = joint.step(step, watch=watch or predicted)
        for place, what in joint.union.divergence.stopped.items():
            if self.simulations[place] in running:
                _leave(self.simulations[place], what)
        joint.means.add(learned)
        self._shared = False
        ended = split_rows(ends.ended, len(self.simulations), joint.union.system.batch)
        for simulation, own in zip(self.simulations, ended, strict=True):
            replica: object = simulation.backend
            if simulation in running and simulation.diverged is None:
                assert isinstance(replica, Replica)
                simulation.learned, simulation.now = replica.report(learned), step + 1
                simulation._record(step, watch=watch)
                if simulation._writer is not None:
                    simulation._writer.step_by_hand()
                infos.append({"step": step, "ended": own, "losses": simulation.learned.by_agent()})
        if watch:
            joint.means.end_row()
        return infos

    def _share(self) -> None:
        """Bring environments and means of the simulations up to date, once a step."""
        if self._joint is None or self._shared:
            return
        self._shared = True
        for simulation, sums in zip(self.simulations, self._joint.share(), strict=True):
            if isinstance(simulation.backend, Replica) and simulation.diverged is None:
                simulation._train_means.load_state_dict(sums)

    def run(self, steps: int | None = None, *, epochs: float | None = None) -> None:
        """Run for `steps` or `epochs` (see `Simulation.run`); with neither, until `training.steps` have been done.

        Members are evaluated, and end early, as `training.evaluate` says. DivergenceError where all replicas have diverged; if some have, `simulation.diverged` is the message of each. For Ctrl-C and SIGTERM see `Simulation.run`.
        """
        first = self.simulations[0]
        steps = steps_to_take(first, steps, epochs)
        if steps is None:
            steps = max(0, first.scenario.training.steps - first.now)
        if (
            first.scenario.training.evaluate is not None
        ):  # of members that record nothing no step is evaluated
            for simulation in self.simulations:
                history_of_run(simulation)
        writers = [one._writer for one in self.simulations if one._writer is not None]
        outcomes = RunLoop(self.simulations, writers, self.step).run(steps)
        if all(outcome.error is not None for outcome in outcomes):
            raise DivergenceError(str(outcomes[0].error))
        if number := max(outcome.signal for outcome in outcomes):
            deliver(number, f"run() continues after step {first.now:,}")

    @in_own_context
    def exploit(self, member: int, parent: int) -> None:
        """Copy what another member has learned: parameters, running statistics, also of own objectives, optimiser state, predictors.

        Environment, messages, open windows (replayed with the new parameters and statistics) and random draws stay the
        member's own. RunError where an object of the other one's keeps a state that cannot be copied.
        """
        self.load_learned(member, self.learned(parent))

    @in_own_context
    def learned(self, member: int) -> dict[str, Any]:
        """Return the state of what a member has learned (see `exploit`); its tensors are the member's own."""
        return learned_of(self.simulations[member].backend.per_agent(), self.whole(member))

    @in_own_context
    def whole(self, member: int) -> dict[str, Any]:
        """Return the state of a member's backend, for `revive`; its tensors are the member's own. RunError: see `exploit`."""
        backend = self.simulations[member].backend
        check_kept(backend.per_agent())
        return backend.state_dict()

    @in_own_context
    def load_learned(self, member: int, state: Mapping[str, Any]) -> None:
        """Continue a member with a copy of what another one has learned, which may be in another process."""
        backend = self.simulations[member].backend
        whole = with_statistics({**backend.state_dict(), **state}, state["learners"])
        backend.load_state_dict(copy_tree(whole))

    @in_own_context
    def explore(self, member: int, scenario: Scenario, event: str | None = None) -> None:
        """Continue a member with the hyperparameters of another scenario (see `Simulation.set`).

        Args:
            member: The member.
            scenario: Equal to the member's but for hyperparameters.
            event: One line for the member's events; None: the hyperparameters that change.

        Raises:
            ScenarioError: Something else differs; nothing has changed.
        """
        simulation = self.simulations[member]
        there = simulation.scenario
        changes = differences_of(there, scenario.model_copy(update={"env": there.env}))
        if not changes and event is None:
            return
        shown = ", ".join(f"{key} is {value:.4g}" for key, value in changes)
        simulation._set_all(changes, event or f"{shown} from here on")
        if simulation._writer is not None:
            simulation._writer.directory.note(changes=simulation.changes)

    @in_own_context
    def revive(self, member: int, now: int, state: Mapping[str, Any]) -> None:
        """Continue a member that has diverged, at a step and in its own environment, from the state of another one's backend."""
        simulation = self.simulations[member]
        self._share()
        if self._joint is not None:
            simulation._env.let_go()
            simulation._world = self._joint.world.runners[member]
            simulation._env = simulation._world.env
            self._joint.engine.divergence.revive(member)
            simulation.backend = Replica(self._joint, member)  # type: ignore[assignment]
        simulation.now, simulation.diverged = now, None
        simulation.backend.load_state_dict(copy_tree(state))
        simulation._train_means = MeanAccumulator(simulation._system)
        simulation.newest = NewestFigures(simulation._system)

    def close(self) -> None:
        """Close all simulations, and the environments of seeds that have left."""
        for simulation in self.simulations:
            simulation.close()
        for runner in () if self._joint is None else self._joint.world.runners:
            runner.env.let_go()


_ELSEWHERE = {
    "stacked": "the members' agents are stacked where possible; leave it out",
    "parts": "one program computes all members; divide them with `antiphon run --jobs`, or each with Simulation(parts=…)",
    "capture": "the steps of several members are not captured; leave it out",
    "seed": "write seeds, one for each member",
    "evaluate": "is a key of the scenario: training: {evaluate: {period: 100}}",
    "patience": "is a key of the scenario: training: {evaluate: {period: 100, patience: {loss: 5}}}",
}
"""The fix for arguments that are accepted elsewhere."""
_SETTINGS = ("device", "dtype", "threads", "checkpoint_every")


def _check_settings(settings: Mapping[str, Any], exist: str) -> None:
    """Raise ScenarioError where a population does not have a setting."""
    for name in settings:
        if name not in _SETTINGS:
            fix = _ELSEWHERE.get(name, f"a population has no such setting{suggest(name, _SETTINGS)}")
            raise ScenarioError(f"Population: {name}: {fix}")
    check_exist(exist)
    if exist == "resume":
        line = "members are resumed together by antiphon.population, or each by Simulation.resume"
        raise ScenarioError(f"Population: exist='resume': {line}")


def _folder(path: Path, exist: str) -> Path:
    """Return the folder of the members' run directories; RunError where it is not free."""
    if exist == "number":
        return next(place for place in numbered(path) if is_free(place))
    if exist != "overwrite":
        check_free(path, exist)
    return path


def member_path(folder: Path, member: int, members: int) -> Path:
    """Return the run directory of a member of a population."""
    return folder / f"member-{member:0{len(str(members - 1))}}"


def _leave(simulation: Simulation, line: str | None) -> None:
    """Let a simulation that has diverged (`line`) or been stopped early keep what it is now, whatever the others do.

    It continues to own an environment that nobody steps; the former one belongs to the caller.
    """
    state = copy_tree(simulation._state_dict(whole=False))
    quiet: dict[str, list[str]] = {"agents": [], "gradients": [], "inputs": []}  # only in what it leaves
    state["system"]["quarantine"] = {**state["system"]["quarantine"], **quiet}
    kept = simulation.until, simulation.train_means, simulation.learned
    if state["env"] is not None:
        own = simulation.scenario = with_own_env(
            simulation.scenario, "a seed that stops needs one of its own"
        )
        simulation._env = make_environment(own, simulation.device, simulation.dtype, own.training.batch)
        simulation._backend, simulation._stacked = "cohort", False
        simulation._start(simulation.seed)
        simulation._load_state_dict(state)
    simulation.until, simulation._train_means, simulation.learned = kept
    simulation.diverged = line


def sequential_reason(simulation: Simulation, backend: str | BackendFactory, count: int) -> str | None:
    """Return why `count` seeds of a scenario, of one of which there is a simulation, are stepped one after the other.

    None: they are stepped together. ScenarioError where they are not, but would have to play against each other.
    """
    system, env = simulation._system, simulation.world.env
    if backend != "cohort":
        name = backend if isinstance(backend, str) else simulation.backend.name
        reason: str | None = f"the {name} backend was requested"
    elif count == 1:
        reason = "there is only one"
    else:
        alone = [f"'{name}' runs unstacked: {why}" for name, why in reasons_alone(system).items()]
        reason = sequential_reason_of(system, alone)
    if reason is not None and count > 1 and isinstance(env, Arena) and env.league:
        fix = "change that, or set league to false"
        raise ScenarioError(
            f"env.league: members meet only where they are stepped together, and {reason}; {fix}"
        )
    return reason
