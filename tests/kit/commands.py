"""The command line in this process, as somebody uses it in a folder of his own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

Words = str | Path | Sequence[str]


def run_command(*words: Words) -> int:
    """Run a command in this process, and return its exit code.

    A string is split into words at its blanks; a path and the members of a list stay as they are.
    """
    from antiphon.cli import main

    parts = [[str(w)] if isinstance(w, Path) else w.split() if isinstance(w, str) else w for w in words]
    return main([word for part in parts for word in part])


class Commands:
    """Runs commands and keeps what the last one printed, in `out` and `err`; `run_command` says what words are."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def code(self, *words: Words) -> int:
        """Return a command's exit code."""
        self._capsys.readouterr()
        code = run_command(*words)
        self.out, self.err = self._capsys.readouterr()
        return code

    def __call__(self, *words: Words) -> str:
        """Return what a command that succeeds prints."""
        assert self.code(*words) == 0
        return self.out

    def json(self, *words: Words) -> Any:
        """Return the object that a command prints as its last line."""
        return json.loads(self(*words, "--json").splitlines()[-1])

    def trained(self, document: str, *words: Words) -> Path:
        """Run a scenario, which is written into the working folder, and return its run directory, with its name."""
        name = re.findall(r"^scenario: (\S+)", document, re.MULTILINE)[0]
        Path(f"{name}.yaml").write_text(document)
        self("run", f"{name}.yaml --logdir runs --name {name}", *words)
        return Path("runs", name)

    def refused(self, *words: Words) -> str:
        """Return the one line with which a command fails, and nothing else is printed."""
        assert self.code(*words) == 2
        assert (self.out, self.err.count("\n")) == ("", 1)
        assert self.err.startswith("error: ")
        return self.err.removeprefix("error: ").rstrip()
