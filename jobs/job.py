"""Job: a request for a run and the directory of the run: alone, one of several seeds, of a study's runs, of a population's members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.running.callbacks import Outcome
from antiphon.running.directory import RunDirectory, check_free, is_free
from antiphon.running.templates import Request

if TYPE_CHECKING:
    from antiphon.jobs.stacked_program import Together
    from antiphon.running.run import Run


class Job:
    """A request for a run, and the directory of the run.

    Args:
        exist: If it exists and is not empty: `resume` (a run that has ended is kept), `overwrite`, `number` (another name), or an error (`new`).

    Attributes:
        directory: The run that is resumed; None: there is none.
        ended: How it has ended; None: it has not.
        step: The step that it starts from; its last one where it has ended.
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
        self._exist, self._checkpoint_every = exist, checkpoint_every
        self.directory: RunDirectory | None = None
        if exist == "resume" and not is_free(path):
            self.directory = RunDirectory.open(path)
            self.directory.check_same(request.scenario, request.settings.facts)
        elif exist != "number":
            check_free(path, overwrite=exist == "overwrite")
        self.until = request.scenario.training.steps if until is None else until
        self.ended: Outcome | None = None
        self.step = 0
        if self.directory is not None:
            self.step = self.directory.newest_step
            self.ended = self.directory.outcome(self.until)
        if self.ended is not None:
            self.step = self.until

    def fact(self, name: str, default: Any = None) -> Any:
        return default if self.directory is None else self.directory.facts.get(name, default)

    @property
    def sequential_reason(self) -> str | None:
        """Why it cannot be stacked with any other; None: it may be."""
        if self.request.division is not None or self.fact("parts"):
            return "each is computed in parts"
        if self.fact("capture"):
            return "their steps are recorded"
        return None

    def begin(self, seeds: Sequence[int] = (), executor: Together | None = None) -> Run:
        """Begin the run, or resume it; `seeds`: those that it is trained together with, its own among them."""
        from antiphon.running.start import begin, resume  # loads torch: what is wrong is told before

        request = self.request
        how: dict[str, Any] = {
            "executor": executor,
            "division": request.division,
            "checkpoint_every": self._checkpoint_every,
            "until": self.until,
        }
        if self.directory is not None:
            step = self.step if seeds else None
            return resume(self.directory, request.given_scenario, step=step, together=seeds, **how)
        exist = "new" if self._exist == "resume" else self._exist
        facts = request.facts | ({"together": list(seeds)} if seeds else {})
        return begin(request.scenario, request.settings, self.path, exist=exist, facts=facts, **how)
