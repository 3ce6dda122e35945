"""The examples of the README and of docs/ work: `python` blocks as programs, `antiphon` commands in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import antiphon
from tests.docs.warm import CLIENT, warm

pytestmark = pytest.mark.filterwarnings(
    "error::antiphon.base.errors.ScenarioWarning", "ignore:.*took no optimiser step"
)
"""No example is one that `check` would warn of; few steps may be too few to learn anything."""

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in sorted((ROOT / "docs").glob("**/*.md")) if "_build" not in page.parts]
DOCUMENTS = [ROOT / "README.md", *PAGES]
SHELLS = {"bash", "console", "sh", "shell", "zsh"}
REASON = re.compile(r"<!--\s*no-run:\s*(.*?)\s*-->")
"""Why a block is not run."""
LONGEST_SECONDS = 120
SHORT = {"README.md", "docs/channels.md", "docs/evaluation.md", "docs/tutorial.md"}
"""Documents whose programs take few steps here: the others compare what comes of their steps."""

SHIM = """\
#!{python} -SE
import os, sys

words = sys.argv[1:]
if words and words[0] in ("run", "resume", "study", "population"):
    if words[0] == "study" and "--jobs" not in words:
        words += ["--jobs", "1"]
    for option, most in (("--steps", 10 if words[0] == "resume" else 5), ("--seeds", 1)):
        joined = [word for word in words if word.startswith(option + "=")]
        words = [part for word in words for part in (word.split("=", 1) if word in joined else [word])]
        if option in words:
            at = words.index(option) + 1
            words[at] = str(min(int(words[at]), most))
        elif option == "--steps" and words[0] != "resume":
            words += [option, str(most)]
os.execv({command!r}, [{command!r}, *words])
"""
"""Stands before the real command: at most five steps (ten where it resumes) and one seed, and a study in one process."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: Path
    line: int
    """The line of its first line of code, from 1."""
    language: str
    text: str
    reason: str | None
    """Why it is not run; None where it is, empty where the comment says nothing."""

    @property
    def place(self) -> str:
        """Where it stands: README.md:12."""
        return f"{self.document.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def command(self) -> str:
        """The first word of its first line that is not a comment."""
        for line in self.text.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                return line.split()[0]
        return ""


def blocks_of(document: Path, text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text, in order."""
    blocks: list[Block] = []
    before, fence, language, start = "", "", "", 0
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if fence:
            if bare == fence:
                comment = REASON.fullmatch(before)
                reason = comment[1] if comment else None
                blocks.append(Block(document, start, language, "\n".join(body) + "\n", reason))
                before, fence = "", ""
            else:
                body.append(line)
        elif match := re.match(r"(`{3,}|~{3,})\s*(\w*)", bare):
            fence, language, start, body = match[1], match[2].lower(), number + 1, []
        elif bare:
            before = bare
    assert not fence, f"{document.name}:{start - 1}: the block has no end"
    return blocks


BLOCKS = [
    block
    for document in DOCUMENTS
    if document.is_file()
    for block in blocks_of(document, document.read_text(encoding="utf-8"))
]
PROGRAMS = {
    document.relative_to(ROOT).as_posix(): found
    for document in DOCUMENTS
    if (
        found := [b for b in BLOCKS if b.document == document and b.language == "python" and b.reason is None]
    )
}
COMMANDS = [
    b for b in BLOCKS if b.language == "bash" and b.command in {"antiphon", "cat"} and b.reason is None
]
"""Commands, also of a block that writes a file first (`cat > train.py`)."""


def run_program(blocks: list[Block], name: str) -> None:
    """Execute python blocks in one namespace; a traceback shows the document's own lines."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    try:
        for block in blocks:
            text = "\n" * (block.line - 1) + block.text
            exec(compile(text, str(block.document), "exec"), module.__dict__)
    finally:
        del sys.modules[name]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where commands are carried out by a process that has imported antiphon."""
    with tempfile.TemporaryDirectory() as folder, warm(Path(folder)) as found:
        yield found


def run_commands(text: str, folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Run a shell block in a folder, `antiphon` with a toy budget."""
    shim, command = folder / "bin" / "antiphon", folder / "bin" / "warm-antiphon"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=sys.executable, command=str(command)))
    command.write_text(CLIENT.format(python=sys.executable, address=address))
    for program in (shim, command):
        program.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def of_readme_first(places: Mapping[str, Any]) -> list[Any]:
    """Return parameters by place; those of other documents than the README are for `make test-all`."""
    return [
        pytest.param(value, id=place, marks=() if place.startswith("README") else pytest.mark.long)
        for place, value in places.items()
    ]


@pytest.mark.parametrize("name", of_readme_first({name: name for name in PROGRAMS}))
def test_python_blocks_run_in_order(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name in SHORT:
        plain = antiphon.Simulation.run
        monkeypatch.setattr(antiphon.Simulation, "run", lambda run, steps=5: plain(run, steps=min(steps, 5)))
        monkeypatch.setattr(antiphon, "study", partial(antiphon.study, steps=5, seeds=1))
    run_program(PROGRAMS[name], re.sub(r"\W", "_", name))


@pytest.mark.parametrize("block", of_readme_first({block.place: block for block in COMMANDS}))
def test_antiphon_commands_run(block: Block, tmp_path: Path, address: str) -> None:
    done = run_commands(block.text, tmp_path, address)
    assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_every_block_that_is_not_run_says_why_and_make_has_the_targets_that_are_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for block in BLOCKS:
        if block.language == "bash" and block.reason is None:
            assert set(re.findall(r"^make\s+([a-z-]+)", block.text, re.MULTILINE)) <= targets, block.place
        assert block.reason != "", f"{block.place}: no-run without a reason"
        if block.language in SHELLS and block.reason is None:
            run = block.language == "bash" and block.command in {"antiphon", "cat", "make"}
            assert run, (
                f"{block.place}: write <!-- no-run: reason --> above it, or begin with antiphon or make"
            )
