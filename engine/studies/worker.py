"""A worker process of a study: reads jobs from stdin, a line at a time, carries them out, and writes a line.

A line is a list of jobs (`job_of`) that are equal but for the seed. The line written is a list of answers (`work`); null
where the seeds cannot be trained together: nothing has been done then.
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
    from antiphon.engine.runs.trainer import Outcome

__all__ = ["job_of", "work"]


def job_of(
    request: Request, path: Path, scorings: Sequence[Scoring] = (), *, representations: bool = False
) -> dict[str, Any]:
    """Return a run as plain data.

    Args:
        request: Scenario, seed and settings.
        path: Its directory.
        scorings: Further scores, besides its result.
        representations: Whether its agents' representations are measured.
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


def work(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Carry out a run, or the runs of several seeds in one program, or resume them, and score them.

    Args:
        jobs: Equal but for seed and path.

    Returns:
        For each job `result` (None where there is none), `scores` (by `Scoring.name`), `exit_code` and `error` (a line,
        or None). None: the seeds cannot be trained together, and nothing has been done.
    """
    from antiphon.engine.runs.multi_seed import MultiSeedRun

    try:
        requests = [_request(job) for job in jobs]
        runs = MultiSeedRun(requests, [Path(job["path"]) for job in jobs], resume_if_exists=True)
        if runs.sequential_reason is not None:
            return None
        outcome = runs.train()
        return [
            _answer(job, outcome.outcomes[job["seed"]])
            if job["seed"] in outcome.outcomes
            else {"result": None, "scores": {}, "exit_code": outcome.exit_code, "error": "was not begun"}
            for job in jobs
        ]
    except EngineError:
        raise
    except AntiphonError as error:
        return [
            {"result": None, "scores": {}, "exit_code": error.exit_code, "error": str(error)} for _ in jobs
        ]


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
    """Score a run if it is done, and return the answer to its job."""
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


def main() -> None:
    """Carry out jobs until stdin ends. Other output goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
