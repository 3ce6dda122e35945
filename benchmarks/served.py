"""A contestant in a process of its own: another version of antiphon, or a library with threads and settings of its own.

The process answers requests, one JSON object a line, and tells its own CPU time; turns alternate with those of the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Served", "serve"]


class Served:
    """A process that answers requests.

    Args:
        command: Starts it.
        environment: Variables set for it beside this process's.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def request(self, **fields: Any) -> dict[str, Any]:
        """Return the answer to a request; RuntimeError: the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(fields) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of a contestant ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def turn(self, count: int) -> float:
        """Return the process's CPU seconds per step over some steps."""
        return float(self.request(steps=count)["seconds"]) / count

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests on standard input until it ends; what else is printed goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), file=answers, flush=True)
