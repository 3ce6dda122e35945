"""Members of one scenario that are stepped together, each with a seed and hyperparameters of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from antiphon.base.errors import DivergenceError, ScenarioError, with_count
from antiphon.base.signals import stopped_by
from antiphon.engine.backends import BackendFactory
from antiphon.engine.build.stack_members import reason_apart
from antiphon.engine.live_system import Executor, LiveSystem, Settings
from antiphon.engine.metrics.report_by_agent import LossesByAgent
from antiphon.engine.state.changes import differences_of
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.state.state_dict import learned_of, with_statistics
from antiphon.envs.worlds.arena import Arena
from antiphon.jobs.stacked_program import Together
from antiphon.running.loop import steps_to_take, train
from antiphon.running.run import Run, StepInfo
from antiphon.running.simulation import Simulation
from antiphon.running.start import begin
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.loading import as_scenario


class Population:
    """Members of one scenario, each with its own seed and hyperparameters, all stepped at a time; nothing is written.

    Seeds of one scenario are a population in which nothing else differs. Each member computes what it would compute alone, up
    to rounding.

    Args:
        scenario: See `Simulation`; or one for each member, equal but for hyperparameters.
        seeds: One for each member; different ones where the scenario is the same.
        backend: `cohort` steps members together, where that is possible; `native`, or a function (see `Simulation`), one
            after the other.
        settings: `device`, `dtype` and `threads` of each `Simulation`.

    Attributes:
        runs: One for each member, in order.
        simulations: The members' simulations.
        sequential_reason: Why they are stepped one after the other; None: they are stepped together.

    Raises:
        ScenarioError: No seed, a seed twice, or a scenario that cannot be built; scenarios that differ in more than
            hyperparameters.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path | Sequence[Scenario],
        seeds: Sequence[int],
        *,
        backend: str | BackendFactory = "cohort",
        **settings: Any,
    ) -> None:
        seeds = list(seeds)
        requested = (
            [as_scenario(scenario)] * len(seeds)
            if isinstance(scenario, Scenario | Template | str | Path)
            else list(scenario)
        )
        distinct = set(zip(map(id, requested), seeds, strict=False))
        if not seeds or not len(distinct) == len(seeds) == len(requested):
            raise ScenarioError(
                f"seeds: got {seeds} for {len(requested)} scenarios; give each one, and different ones to equal scenarios"
            )
        for later in requested[1:]:
            differences_of(requested[0], later)
        with ExitStack() as undo:
            runs, together = list[Run](), Together()
            for scenario_of_member, seed in zip(requested, seeds, strict=True):
                how = Settings.of(seed=seed, backend=backend, stacked=False, **settings)
                runs.append(begin(scenario_of_member, how, executor=together))
                undo.callback(runs[-1].close)
            self._join(runs, together)
            undo.pop_all()

    @classmethod
    def of(cls, runs: Sequence[Run], together: Together) -> Self:
        """Return the population of runs that have begun or were resumed, at one step, each with this executor."""
        population = cls.__new__(cls)
        population._join(runs, together)
        return population

    def _join(self, runs: Sequence[Run], together: Together) -> None:
        systems = [run.running for run in runs]
        self.runs = list(runs)
        self.simulations = [Simulation.over(run) for run in runs]
        self._together = together
        backend = systems[0].settings.backend
        self.sequential_reason = sequential_reason(systems, backend, len(runs))
        if self.sequential_reason is None:
            together.join([run.running for run in runs if run.stop_reason is None])
        for running in systems:
            if running in together.members:
                continue
            running.execute_by(Executor())
            if isinstance(backend, str):
                running.restack()

    def step(self) -> list[StepInfo]:
        """Take one step of all members that have not diverged or been stopped, and return its info for each; DivergenceError: all have."""
        active = [run for run in self.runs if run.running.diverged is None and run.stop_reason is None]
        if not active:
            reasons = [run.running.diverged or run.stop_reason for run in self.runs]
            raise DivergenceError(f"all members have ended: {reasons[0]}")
        systems = [run.running for run in active]
        if self.sequential_reason is None and systems != self._together.members:
            self._together.join(systems)
        if self._together.members:
            return self._step_together(active)
        infos: list[StepInfo] = []
        for run in active:
            with suppress(DivergenceError):  # noted in what runs
                infos.append(run.step())
        return infos

    def _step_together(self, active: Sequence[Run]) -> list[StepInfo]:
        together, step = self._together, active[0].running.now
        if any(run.running.now != step for run in active):
            raise ScenarioError("seeds: they are at different steps; load states of the same step into all")
        due = any(run.log_steps.due(step) for run in active)
        ended = together.step(step, watch=[run.begin_step(due=due) for run in active])
        infos: list[StepInfo] = []
        for run, ended_rows in zip(active, ended, strict=True):
            if run.running.diverged is None:
                run.record(step, due=due)
                infos.append(
                    {"step": step, "ended": ended_rows.plain, "losses": LossesByAgent(run.running.learned)}
                )
        if due:
            together.end_row()
        return infos

    def run(self, steps: int | None = None, *, epochs: float | None = None) -> None:
        """Run for `steps` or `epochs` (see `Simulation.run`); with neither, until `training.steps` have been done.

        Members are evaluated, and end early, as `training.evaluate` says. DivergenceError where all members have diverged; if some have, `simulation.diverged` is the message of each. For Ctrl-C and SIGTERM see `Simulation.run`.
        """
        going_on = [run.running for run in self.runs if run.running.diverged is None]
        first = [*going_on, self.runs[0].running][0]
        steps = steps_to_take(first, steps, epochs)
        if steps is None:
            steps = max(0, first.scenario.training.steps - first.now)
        if first.scenario.training.evaluate is not None:
            for run in self.runs:  # of members that record nothing no step is evaluated
                run.history_of_run()
        outcomes = train(self.runs, steps, step=self.step)
        if all(outcome.error is not None for outcome in outcomes):
            raise DivergenceError(str(outcomes[0].error))
        if number := max(outcome.signal for outcome in outcomes):
            raise stopped_by(number, f"run() continues after step {first.now:,}")

    def exploit(self, member: int, parent: int) -> None:
        """Copy what another member has learned: parameters, running statistics, also of own objectives, optimiser state, predictors.

        Environment, messages, open windows (replayed with the new parameters and statistics) and random draws stay the
        member's own. RunError where an object of the other one's keeps a state that cannot be copied.
        """
        backend, other = (self.runs[number].running.backend for number in (member, parent))
        state = with_statistics({**backend.state_dict(), **learned_of(other.state_dict())})
        backend.load_state_dict(copy_tree(state))

    def explore(self, member: int, scenario: Scenario, event: str | None = None) -> None:
        """Continue a member with the hyperparameters of another scenario (see `Simulation.set`).

        Args:
            event: One line for the member's events; None: the hyperparameters that change.

        Raises:
            ScenarioError: Something else differs; nothing has changed.
        """
        run = self.runs[member]
        present = run.running.scenario
        changes = differences_of(present, as_scenario(scenario).model_copy(update={"env": present.env}))
        if not changes and event is None:
            return
        shown = ", ".join(f"{key} is {value:.4g}" for key, value in changes)
        run.running.set(changes, event or f"{shown} from here on")
        if run.directory is not None:
            run.directory.note(changes=run.running.changes)

    def revive(self, member: int, now: int, parent: int) -> None:
        """Continue a member that has diverged, at a step and in its own environment, from the state of another one."""
        running, state = self.runs[member].running, self.runs[parent].running.backend.state_dict()
        self._together.revive(running)
        running.backend.load_state_dict(copy_tree(state))
        running.begin_again(now)

    def close(self, failure: BaseException | None = None) -> None:
        """Close all simulations; a failure that ends their runs is noted in each that has not ended."""
        with ExitStack() as closing:
            for run in self.runs:
                closing.callback(run.close, failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        self.close(failure)

    def __repr__(self) -> str:
        first, count = self.simulations[0], with_count(len(self.simulations), "member")
        return f"<Population of {first.scenario.scenario}: {count}, step {first.now:,}>"


def sequential_reason(built: Sequence[LiveSystem], backend: str | BackendFactory, count: int) -> str | None:
    """Return why `count` seeds of a scenario, some of which are built, are stepped one after the other.

    None: they are stepped together. ScenarioError where they are not, but would have to play against each other.
    """
    env = built[0].env
    if backend != "cohort":
        name = backend if isinstance(backend, str) else built[0].backend.name
        reason: str | None = f"the {name} backend was requested"
    elif count == 1:
        reason = "there is only one"
    else:
        reason = reason_apart(*(running.system for running in built))
    if reason is not None and count > 1 and isinstance(env, Arena) and env.league:
        fix = "change that, or set league to false"
        raise ScenarioError(
            f"env.league: members meet only where they are stepped together, and {reason}; {fix}"
        )
    return reason
