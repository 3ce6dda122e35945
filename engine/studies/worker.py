"""A worker of a study: reads a run, or those of several seeds, per line from stdin, carries them out, writes a line.

A line is a job (`job_of`), or a list of jobs that are alike but for the seed. What is written is one answer, or a list of
them; null where the seeds cannot be joined: nothing has been done then.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.engine.runs.request import Request
from antiphon.engine.studies.representations import measure_representations
from antiphon.engine.studies.scoring import Scoring, add_scores
from antiphon.errors import AntiphonError, EngineError
from antiphon.scenarios import Template

if TYPE_CHECKING:
    from antiphon.engine.runs.run import Outcome

__all__ = ["job_of", "work", "work_together"]


def job_of(
    request: Request, path: Path, scorings: Sequence[Scoring] = (), *, representations: bool = False
) -> dict[str, Any]:
    """Return a run as plain data.

    Args:
        request: What it shall be.
        path: Its directory.
        scorings: How it is to be scored, beside its result.
        representations: Whether what its agents make of examples is measured.
    """
    return {
        "text": request.template.text,
        "source": request.template.source,
        "variant": request.variant,
        "values": dict(request.values),
        "steps": request.steps,
        "seed": request.seed,
        "device": request.device,
        "command": list(request.command),
        "path": str(path),
        "scorings": [asdict(scoring) for scoring in scorings],
        "representations": representations,
    }


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run, or go on with it, and score it.

    Returns:
        `result` (None where there is none), `scores` (by `Scoring.name`), `exit_code` and `error` (a line, or None).
    """
    from antiphon.engine.runs.run import begin
    from antiphon.engine.runs.seeds_run import ended

    path = Path(job["path"])
    try:
        request = _request(job)
        outcome = ended(request, path) or begin(request, path, resume_if_exists=True).go()
        return _answer(job, outcome)
    except EngineError:
        raise
    except AntiphonError as error:
        return _failed(error)


def work_together(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Carry out the runs of several seeds in one program, or go on with them, and score them.

    Args:
        jobs: Alike but for seed and path.

    Returns:
        An answer for each, as of `work`; None: they cannot be joined, and nothing has been done.
    """
    from antiphon.engine.runs.seeds_run import SeedsRun

    try:
        requests = [_request(job) for job in jobs]
        runs = SeedsRun(requests, [Path(job["path"]) for job in jobs], resume_if_exists=True)
        if runs.apart is not None:
            return None
        found = runs.go()
        stopped: dict[str, Any] = {
            "result": None,
            "scores": {},
            "exit_code": found.exit_code,
            "error": "was not begun",
        }
        outcomes = [found.outcomes.get(job["seed"]) for job in jobs]
        return [
            stopped if outcome is None else _answer(job, outcome)
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
    except EngineError:
        raise
    except AntiphonError as error:
        return [_failed(error) for _ in jobs]


def _request(job: dict[str, Any]) -> Request:
    return Request(
        template=Template.from_yaml(job["text"], job["source"]),
        variant=job["variant"],
        values=job["values"],
        steps=job["steps"],
        seed=job["seed"],
        device=job["device"],
        command=tuple(job["command"]),
    )


def _answer(job: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Score a run that has come to its end, and return what is said of it."""
    scores = {}
    if outcome.exit_code == 0:
        path, steps = Path(job["path"]), outcome.result["steps"]
        scores = add_scores(path, steps, [Scoring(**scoring) for scoring in job["scorings"]])
        if job["representations"]:
            measure_representations(path, steps)
    return {
        "result": outcome.result,
        "scores": scores,
        "exit_code": outcome.exit_code,
        "error": outcome.error,
    }


def _failed(error: AntiphonError) -> dict[str, Any]:
    return {"result": None, "scores": {}, "exit_code": error.exit_code, "error": str(error)}


def main() -> None:
    """Serve until stdin ends. Whatever else is printed meanwhile goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        job = json.loads(line)
        answer = work_together(job) if isinstance(job, list) else work(job)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
