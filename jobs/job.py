"""Job: a request for a run and the directory of the run: one of several seeds, of a study's runs, of a population's members."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError
from antiphon.jobs.stacked_program import Together
from antiphon.running.begin import begin, begin_request
from antiphon.running.directory import RunDirectory, check_free, remove_run
from antiphon.running.request import Request
from antiphon.running.resume import resume
from antiphon.running.run import Run
from antiphon.running.trainer import Outcome


class Job:
    """A request for a run, and the directory of the run.

    Args:
        exist: If it exists and is not empty: `resume` (a run that has ended is kept), `overwrite`, or an error (`new`).
        until: The step to stop at; None: `training.steps`.

    Attributes:
        until: As given, or `training.steps`.
        directory: The run that is resumed; None: there is none.
        ended: How it has ended; None: it has not.
        step: The step that it starts from; its last one where it has ended.

    Raises:
        RunError: The directory holds something else.
    """

    def __init__(
        self,
        request: Request,
        path: Path,
        *,
        exist: str = "new",
        checkpoint_every: int | None = None,
        until: int | None = None,
    ) -> None:
        self.request, self.path = request, path
        self._how: dict[str, Any] = {"exist": exist, "checkpoint_every": checkpoint_every}
        self.directory: RunDirectory | None = None
        if exist == "resume":
            self.directory = request.existing(path)
        else:
            check_free(path, overwrite=exist == "overwrite")
        self.until = request.scenario.training.steps if until is None else until
        self.ended: Outcome | None = None
        self.step = self.saved = 0
        if self.directory is not None:
            self.step = self.saved = self.directory.checkpoints.newest_step
            self.ended = request.outcome(self.directory, self.until)
        if self.ended is not None:
            self.step = self.until

    def fact(self, name: str, default: Any = None) -> Any:
        """Return what run.json of the run that is resumed says."""
        return default if self.directory is None else self.directory.facts.get(name, default)

    @property
    def checkpoint_steps(self) -> list[int]:
        return [] if self.directory is None else [*self.directory.checkpoints.by_step]

    @property
    def sequential_reason(self) -> str | None:
        """Why it cannot be stacked with any other; None: it may be."""
        if self.request.division is not None or self.fact("parts"):
            return "each is computed in parts"
        if self.request.capture or self.fact("capture"):
            return "their steps are recorded"
        return None

    @property
    def ends_together(self) -> bool:
        """Whether it has taken its last step with others, and its end was not written: it ends as one of them."""
        return self.step == self.until and len(self.fact("together") or ()) > 1

    def continue_from(self, step: int) -> None:
        """Start from the checkpoint of a step, also where it has ended after it."""
        self.step = step
        if step < self.until:
            self.ended = None

    def begin(self) -> Run:
        return begin_request(self.request, self.path, until=self.until, directory=self.directory, **self._how)

    def begin_together(self, seeds: Sequence[int], undo: ExitStack, executor: Together) -> Run:
        """Begin or resume the run with those of some seeds, its own among them; `undo` leaves nothing of a new one."""
        request, every = self.request, self._how["checkpoint_every"]
        if self.directory is not None:
            run = resume(
                self.directory,
                request.given_scenario,
                step=self.step,
                until=self.until,
                together=seeds,
                executor=executor,
                checkpoint_every=every,
            )
            undo.callback(run.close)
            return run
        undo.callback(self._discard)
        run = begin(
            request.scenario,
            request.settings,
            self.path,
            executor=executor,
            until=self.until,
            facts={**request.facts, "backend": request.backend, "together": list(seeds)},
            **self._how,
        )
        undo.callback(remove_run, self.path)
        undo.callback(run.close)
        return run

    def _discard(self) -> None:
        """Remove a run that could not begin to be written."""
        with suppress(RunError):
            if RunDirectory.open(self.path).facts["exit"] == "failed":
                remove_run(self.path)
