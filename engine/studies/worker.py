"""A worker of a study: reads one run per line from stdin, carries it out, writes one line about it to stdout."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from antiphon.engine.request import Request
from antiphon.errors import AntiphonError, EngineError
from antiphon.scenarios import Template

__all__ = ["job_of", "work"]


def job_of(request: Request, path: Path) -> dict[str, Any]:
    """Return a run and its directory as plain data."""
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
    }


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a run, or go on with it.

    Returns:
        `result` (None where there is none), `exit_code` and `error` (a line, or None).
    """
    from antiphon.engine.run import begin

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
        outcome = begin(request, job["path"], resume_if_exists=True).go()
    except EngineError:
        raise
    except AntiphonError as error:
        return {"result": None, "exit_code": error.exit_code, "error": str(error)}
    return {"result": outcome.result, "exit_code": outcome.exit_code, "error": outcome.error}


def main() -> None:
    """Serve until stdin ends. Whatever else is printed meanwhile goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
