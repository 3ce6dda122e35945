"""The help of every command: it needs no torch, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.cli import COMMANDS
from tests.cli.test_cli import VERBS
from tests.kit import seams
from tests.kit.commands import Commands


def plain(shown: str) -> str:
    """Return what is shown on a terminal without colours and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", shown).split())


MISTAKES = [
    "run digit-mlp",
    "check digit-mlp",
    "show digit-mlp",
    "study digit-mlp",
    "population pol",
    "evaluate runs/none",
    "resume runs/none",
    "report runs/none",
    "export runs/none none.pt2",
    "tb runs/none",
]


@pytest.mark.long
def test_help_of_every_command_and_the_answer_to_a_wrong_name_load_no_torch(here: Path) -> None:
    program = f"""
import sys
from antiphon.cli import main
for commands in (["", *{VERBS}], {MISTAKES}):
    helps = commands[0] == ""
    codes = [main([*words.split(), *["--help"] * helps]) for words in commands]
    print("codes", set(codes), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("codes")]
    assert found == ["codes {0} False", "codes {2} False"]
    assert all(verb in done.stdout for verb in VERBS)
    assert len(done.stderr.splitlines()) == len(MISTAKES)
    assert done.stderr.count("did you mean 'digits-mlp'?") == 4


def shortened(command: str) -> str:
    """The same of a smaller network, with a tenth of the steps, and a target that is soon reached."""
    command = command.replace("run digits-mlp", "run digits-mlp --set depth=2 --set batch=16")
    return re.sub(
        r"--(steps|target) (\d+)", lambda found: f"--{found[1]} {max(1, int(found[2]) // 10)}", command
    )


@pytest.mark.long
def test_the_examples_in_help_are_there_and_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    monkeypatch.delenv("ANTIPHON_LOGDIR")
    monkeypatch.setattr(seams.TB_SERVE, lambda arguments: None)
    monkeypatch.setattr(seams.STUDY_GO, lambda *_: {"exit_code": 0})
    monkeypatch.setattr("antiphon.commands.study.tables", lambda *_: [])
    assert list(COMMANDS) == VERBS
    for verb in VERBS:
        explained = plain(cli(verb, "--help"))
        for example in COMMANDS[verb].examples:
            assert example in explained
            assert cli.code(shortened(example.removeprefix("antiphon "))) == 0, cli.err
    assert (here / "report.html").exists()


def test_nothing_is_imported_before_ctrl_c_is_a_line() -> None:
    script = "import sys; before = {*sys.modules}; import antiphon.__main__; print(*sorted({*sys.modules} - before))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {*found.stdout.split()} - {"__future__"} == {"antiphon", "antiphon.__main__"}
