"""How runs begin, resume and are trained: by the command line, in Python, together with others, in parts, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.files import fitting, given_path
from antiphon.base.memory import uncollected
from antiphon.distributed.automatic_delay import with_chosen_delay
from antiphon.distributed.coordinator import Coordinator
from antiphon.distributed.free_coordinator import FreeCoordinator
from antiphon.distributed.opening import OpenParts
from antiphon.distributed.parts.placement import check_placement
from antiphon.distributed.settings import PartsSettings
from antiphon.distributed.virtual.virtual_coordinator import VirtualCoordinator
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.environment import steps_of_epochs
from antiphon.engine.running import Executor, Running, Settings, running_of_saved
from antiphon.engine.state.changes import changed
from antiphon.engine.state.checkpoint import read_simulation
from antiphon.engine.state.compatibility import check_same_scenario, with_saved_delays
from antiphon.engine.state.described_scenario import described_scenario
from antiphon.running.directory import RunDirectory, check_exist, check_free, is_free
from antiphon.running.recorded_run import RecordedRun, StepInfo
from antiphon.running.request import Request
from antiphon.running.run_loop import Observer, Outcome, RunLoop, check_limit
from antiphon.running.run_writer import RunWriter, open_writer
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.document import as_scenario

if TYPE_CHECKING:
    from antiphon.distributed.ray.ray_parts import RayParts

Differences = Callable[[RunDirectory], tuple[list[str], list[str]]]
"""Returns the differences between a run and the one that is asked for: of settings, and of the scenario."""


def begin(
    scenario: Scenario | Template | str | Path,
    settings: Settings,
    path: str | Path | None = None,
    *,
    exist: str = "number",
    differences: Differences | None = None,
    executor: Executor | None = None,
    division: PartsSettings | None = None,
    capture: bool | CapturedLoop = False,
    checkpoint_every: int | None = None,
    until: int | None = None,
    facts: Mapping[str, Any] | None = None,
    variants: Iterable[Scenario] = (),
) -> RecordedRun:
    """Begin a run; it is checked and built before anything is written.

    Args:
        scenario: See `Simulation`.
        settings: How it is computed.
        path: Its directory; None: nothing is written.
        exist: What to do if the directory already exists and is not empty (`EXIST`).
        differences: For `exist="resume"`, of the run there; None: all settings and the scenario are compared.
        executor: Takes its steps; None: they are taken here.
        division: The parts that compute it; None: it is computed as a whole.
        capture: See `Simulation`.
        checkpoint_every: See `RunWriter`.
        until: The step that it is to reach; None: the scenario's `training.steps`.
        facts: For run.json, beside those of what runs.
        variants: See `advice`.

    Raises:
        ScenarioError: The scenario cannot be resolved, built or divided, or an argument is invalid.
        DataError: Its data are missing or broken.
        RunError: The directory holds something else, or cannot be written; a part cannot be started.
        ResourceError: There is not enough memory.
    """
    check_interval(checkpoint_every, path)
    check_exist(exist)
    folder = None if path is None else given_path(path, "logdir")
    scenario = as_scenario(scenario)
    if folder is not None and not isinstance(settings.backend, str):
        raise ScenarioError(
            "logdir: a run is resumed with the backend that run.json names, and a function was given; leave logdir out, "
            "or use cohort or native"
        )
    with settings.context(), ExitStack() as undo:
        if folder is not None and exist == "resume" and not is_free(folder):
            directory = RunDirectory.open(folder)
            if differences is None:
                given_scenario(directory, scenario)  # raises where it is another one
                directory.check_same(directory.differences(**settings.facts))
            else:
                directory.check_same(*differences(directory))
            given: dict[str, Any] = {"division": division, "capture": capture, "until": until}
            return resume(directory, scenario, checkpoint_every=checkpoint_every, **given)
        if folder is not None:
            check_free(folder, "number" if exist == "resume" else exist)
        opened = None
        if division is not None:
            scenario, division, opened = with_chosen_delay(scenario, division, settings)
            if opened is not None:
                undo.callback(opened.close)
        executor = executor or _executor(settings, division, capture)
        running = Running(scenario, settings, executor)
        undo.callback(running.close)
        if division is not None:
            _divide(running, division, opened)
        run = RecordedRun(running)
        if until is not None:
            running.until = run.goal = until
        if folder is not None:
            known: dict[str, Any] = {} if settings.stacked else {"stacked": False}
            known |= {"capture": True} if capture is True else {}
            known |= {**running.executor.facts, **(facts or {})}
            run.writer = open_writer(run, folder, checkpoint_every, known, variants, exist)
        undo.pop_all()
    return run


def resume(
    directory: RunDirectory,
    scenario: Scenario | Template | str | Path | None = None,
    *,
    step: int | None = None,
    executor: Executor | None = None,
    division: PartsSettings | None = None,
    capture: bool | CapturedLoop = False,
    checkpoint_every: int | None = None,
    until: int | None = None,
    together: Sequence[int] = (),
) -> RecordedRun:
    """Resume a run in its directory, to the same bits as if it had never stopped.

    Device, type, threads, backend, stacking and the precision of matrix products are read from run.json.

    Args:
        directory: The run's.
        scenario: The same scenario, which is compared with it; needed where it holds Python objects.
        step: The step of the checkpoint, or 0; None: of the newest, or 0.
        executor: Takes its steps; None: as it was run, or here.
        division: The parts that it is resumed in; None: as it was run.
        capture: See `Simulation`; False: as it was run.
        checkpoint_every: See `RunWriter`.
        until: The step that it is to reach; None: that of the run.
        together: The seeds that it is trained together with from here on; empty: none.

    Raises:
        ScenarioError: The scenario is not one, or not found; it cannot be divided.
        RunError: It cannot be resumed, or the scenario is missing or another one; the line names the first difference.
        DivergenceError: It diverged and would do so again.
        ResourceError: There is not enough memory.
    """
    check_interval(checkpoint_every, directory.path)
    with ExitStack() as inside, ExitStack() as undo:
        undo.callback(directory.release)
        directory.lock()
        facts, given = directory.facts, given_scenario(directory, scenario)
        with fitting(directory.path / "run.json"):
            settings, own = Settings.of_facts(facts), PartsSettings.of_facts(facts)
            inside.enter_context(settings.context())
        if own is not None and own.cluster is not None and division is not None:
            own.check_kept(division, directory.path)
            division = None
        elif division is not None and division.cluster is not None:
            raise RunError(f"{directory.path}: is no run in virtual time; leave out the cluster")
        capture = capture or (facts.get("capture", False) and division is None)
        division = division or own
        executor = executor or _executor(settings, division, capture)
        running = _restored(directory, given, settings, executor, step)
        undo.callback(running.close)
        running.check_continues()
        if division is not None:
            _divide(running, division)
            facts |= {"parts": None, **running.executor.facts}
        run = RecordedRun(running)
        if until is not None or facts["exit"] != "done":
            running.until = run.goal = until or facts["steps"]
        elif facts.get("reason"):  # it was stopped early: it goes on where more steps are asked for
            run.goal = running.now
        if together and running.now < running.until:
            directory.note(together=list(together))
        elif not together and len(facts.get("together") or []) > 1 and "alone_from" not in facts:
            facts["alone_from"] = running.now  # its last bits differ from here on
        run.writer = RunWriter(run, directory, checkpoint_every)
        undo.pop_all()
    return run


def _restored(
    directory: RunDirectory,
    scenario: Scenario | None,
    settings: Settings,
    executor: Executor | None,
    step: int | None,
) -> Running:
    """Return what runs, at a checkpoint, or at step 0 where there is none of that step."""
    name = None if step is None else f"step-{step:09d}"
    names = [path.name for path in directory.checkpoints]
    if names if name is None else name in names or step:
        place = directory.path if name is None else directory.path / "checkpoints" / name
        with uncollected():
            saved = read_simulation(place, scenario, settings.device)
        return running_of_saved(saved, settings, executor)
    return Running(scenario or directory.scenario, settings, executor)  # it ended before its first checkpoint


def _executor(
    settings: Settings, division: PartsSettings | None, capture: bool | CapturedLoop
) -> Executor | None:
    """Return what takes the steps of a run from its beginning; None: they are taken one by one, until it is divided."""
    if division is not None and division.cluster is not None and not capture:
        return VirtualCoordinator(division)
    return captured_loop(settings.device, settings.backend, capture, parts=division is not None)


def _divide(running: Running, division: PartsSettings, opened: RayParts | None = None) -> None:
    """Have parts take the steps from here on that nothing observes; one part in this process divides nothing.

    Raises:
        ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
        RunError: A part cannot be started.
    """
    if division.cluster is not None:
        return  # from its beginning
    if division.placement is not None:
        check_placement(running.system, division.placement)
    if not division.one_process:
        parts = OpenParts(division, opened)
        running.execute_by(FreeCoordinator(parts) if division.mode == "free" else Coordinator(parts))


def given_scenario(
    directory: RunDirectory, scenario: Scenario | Template | str | Path | None
) -> Scenario | None:
    """Return the scenario that a run's checkpoints are loaded with; None: they hold their own scenario.

    Raises:
        ScenarioError: `scenario` is not one, or not found.
        RunError: `scenario` is another one than the run's, or its parts did not wait for one another.
        DivergenceError: The run diverged and would do so again.
    """
    with fitting(directory.path / "run.json"):
        division = PartsSettings.of_facts(directory.facts)
    if (
        division is not None
        and division.mode == "free"
        and division.cluster is None
        and directory.checkpoints
    ):
        raise RunError(
            f"{directory.path}: its parts ran in free mode, and no checkpoint holds the messages between them; "
            "start another run, from its weights if you like"
        )
    if directory.facts["exit"] == "diverged":
        error = directory.facts["error"]
        raise DivergenceError(f"{directory.path}: diverged and would do so again: {error}")
    described = directory.described  # None: it is a document
    if scenario is not None:
        saved = described_scenario(directory.scenario) if described is None else described
        scenario = with_saved_delays(as_scenario(scenario), saved)
        try:
            check_same_scenario(saved, described_scenario(scenario))
        except RunError as error:
            raise RunError(f"{directory.path}: {error}") from None
    return None if described is None else scenario


def check_interval(steps: int | None, logdir: str | Path | None) -> None:
    """Refuse an interval of checkpoints that is no number of steps, or that has no folder to write to."""
    if steps is not None and (isinstance(steps, bool) or not hasattr(steps, "__index__") or steps < 1):
        raise ScenarioError(f"checkpoint_every: {steps!r}; must be a whole number of steps, at least 1")
    if steps is not None and logdir is None:
        raise ScenarioError(f"checkpoint_every: {steps} has no effect without a logdir; give one")


def steps_to_take(running: Running, steps: int | None, epochs: float | None) -> int | None:
    """Return the steps of a run, whichever of both limits is less; None: there is none.

    Raises:
        ScenarioError: A limit that cannot be, or epochs of an environment without.
    """
    check_limit("steps", steps)
    steps = None if steps is None else int(steps)
    if epochs is None:
        return steps
    check_limit("epochs", epochs, whole=False)
    needed = steps_of_epochs(running.env, epochs, running.now)
    return needed if steps is None else min(steps, needed)


@dataclass(frozen=True)
class Run:
    """Runs that are trained together, each with a directory; one for most."""

    runs: Sequence[RecordedRun]
    """At the step they start from."""
    until: int
    """The step they stop at."""
    step: Callable[[], Sequence[StepInfo]] | None = None
    """Steps several (`RunLoop`)."""

    @classmethod
    def begin(
        cls,
        request: Request,
        path: str | Path,
        *,
        exist: str = "error",
        checkpoint_every: int | None = None,
    ) -> Self:
        """Begin the run of a request: see `begin`."""
        run = begin(
            request.scenario,
            Settings.of(seed=request.seed, device=request.device, backend=request.backend),
            path,
            exist=exist,
            differences=request.differences,
            division=request.division,
            capture=request.capture,
            checkpoint_every=checkpoint_every,
            until=request.until,
            facts=request.facts,
            variants=request.variants,
        )
        return cls([run], request.until)

    @classmethod
    def resume(
        cls,
        path: str | Path,
        steps: int | None = None,
        scenario: Scenario | None = None,
        division: PartsSettings | None = None,
        checkpoint_every: int | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Self | Outcome:
        """Resume a run from its newest checkpoint: see `resume`.

        Args:
            path: The run directory.
            steps: The step to stop at; schedules keep the scenario's `training.steps`. None: that of the run, whose outcome
                is returned where it is at that step already, or was stopped early.
            scenario: See `resume`.
            division: See `resume`.
            checkpoint_every: See `RunWriter`.
            changes: Settings that change from here on, by the names of `Simulation.set`.

        Raises:
            ScenarioError: It cannot be divided or changed like this.
            RunError: No run is there, it has gone further, it cannot be continued, or `scenario` is another one.
            DivergenceError: It diverged and would do so again.
        """
        directory = RunDirectory.open(path)
        facts = directory.facts
        until = facts["steps"] if steps is None else steps
        done, result = facts["exit"] == "done", directory.result
        step = facts["step"] if done else directory.checkpoint_step
        if until < step:
            raise RunError(f"--steps: {until}, but {path} has done {step} already; give more")
        ended = until == step or (steps is None and facts.get("reason"))
        if ended and done and result is not None:
            if changes:
                # a misspelt name is the first thing to mend
                changed(scenario or directory.scenario, changes.items())
                raise RunError(
                    f"--set: {path} is done, and nothing is left to change; add --steps N, a later step"
                )
            return Outcome("done", result=result)
        run = resume(directory, scenario, division=division, checkpoint_every=checkpoint_every, until=until)
        try:
            for key, value in (changes or {}).items():
                run.set(key, value)
        except BaseException:
            run.close()
            raise
        return cls([run], until)

    @property
    def directory(self) -> RunDirectory:
        """That of the first run."""
        writer = self.runs[0].writer
        assert writer is not None
        return writer.directory

    def train(self, *observers: Observer) -> list[Outcome]:
        """Train to the end, and close the runs; RunError where a directory cannot be written any more.

        Ctrl-C or SIGTERM ends all after the present step, with checkpoints and results; a second one at once.
        """
        writers = [run.writer for run in self.runs if isinstance(run.writer, RunWriter)]
        loop = RunLoop(self.runs, [*observers, *writers], self.step)
        for run in self.runs:
            run.keeps_messages = bool(run.recordings)
        try:
            outcomes = loop.run(max(0, self.until - self.runs[0].running.now))
        finally:
            with ExitStack() as closing:
                for run in self.runs:
                    closing.callback(run.close)
        return [
            replace(outcome, result=writer.result) for outcome, writer in zip(outcomes, writers, strict=True)
        ]
