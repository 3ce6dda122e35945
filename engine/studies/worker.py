"""A worker of a study: reads one run per line from stdin, carries it out, writes one line about it to stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from antiphon.engine.request import Request
from antiphon.engine.studies.representations import measure_representations
from antiphon.engine.studies.scoring import Scoring, add_scores
from antiphon.errors import AntiphonError, EngineError
from antiphon.scenarios import Template

__all__ = ["job_of", "work"]


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
    from antiphon.engine.run import Outcome, begin

    path = Path(job["path"])
    try:
        request = Request(
            template=Template.from_yaml(job["text"], job["source"]),
            variant=job["variant"],
            values=job["values"],
            steps=job["steps"],
            seed=job["seed"],
            device=job["device"],
            command=tuple(job["command"]),
        )
        there = request.finished(path)
        outcome = Outcome(there) if there else begin(request, path, resume_if_exists=True).go()
        scores = {}
        if outcome.exit_code == 0:
            steps = outcome.result["steps"]
            scores = add_scores(path, steps, [Scoring(**scoring) for scoring in job["scorings"]])
            if job["representations"]:
                measure_representations(path, steps)
    except EngineError:
        raise
    except AntiphonError as error:
        return {"result": None, "scores": {}, "exit_code": error.exit_code, "error": str(error)}
    return {
        "result": outcome.result,
        "scores": scores,
        "exit_code": outcome.exit_code,
        "error": outcome.error,
    }


def main() -> None:
    """Serve until stdin ends. Whatever else is printed meanwhile goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
