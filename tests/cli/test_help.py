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


@pytest.mark.parametrize("verb", ["run", "check"])
def test_the_argument_of_what_takes_a_population_names_it(cli: Commands, verb: str) -> None:
    assert re.search(
        r"A scenario,?( study)? or population of the library", plain(cli(f"{verb} --help")).replace("│ ", "")
    )


MISTAKES = [
    "run digit-mlp",
    "check digit-mlp",
    "show digit-mlp",
    "study digit-mlp",
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
    monkeypatch.setattr("antiphon.commands.study.print_tables", lambda *_: None)
    assert list(COMMANDS) == VERBS
    for verb in VERBS:
        explained = plain(cli(verb, "--help"))
        for example in COMMANDS[verb].examples:
            assert example in explained
            assert cli.code(shortened(example.removeprefix("antiphon "))) == 0, cli.err
    assert (here / "report.html").exists()


def test_help_says_that_a_logdir_is_the_parent_of_runs_and_a_study_s_the_study_itself(cli: Commands) -> None:
    words = {verb: plain(cli(verb, "--help").replace("│", " ")) for verb in ("run", "study")}
    assert "--logdir PARENT Parent of run directories" in words["run"]
    assert "--logdir DIR The study's directory itself" in words["study"]


def test_ctrl_c_while_a_command_begins_is_a_line(cli: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("antiphon.commands.show.scenario_template", interrupted)
    assert cli.code("show digits-mlp") == 130
    assert cli.err == "stopped by Ctrl-C\n"


@pytest.mark.parametrize("module", ["antiphon.cli", "antiphon.base.errors", "typer"])
def test_ctrl_c_while_the_command_line_is_imported_is_a_line(module: str) -> None:
    lines = (
        "import sys",
        "class Interrupted:",
        "    def find_spec(self, name, *_):",
        f"        if name == '{module}':",
        "            sys.meta_path.remove(self)",
        "            raise KeyboardInterrupt",
        "sys.meta_path.insert(0, Interrupted())",
        "from antiphon.__main__ import main",
        "sys.exit(main())",
    )
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (130, "stopped by Ctrl-C\n")


def test_nothing_is_imported_before_ctrl_c_is_a_line() -> None:
    script = "import sys; before = {*sys.modules}; import antiphon.__main__; print(*sorted({*sys.modules} - before))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {*found.stdout.split()} - {"__future__"} == {"antiphon", "antiphon.__main__"}


def test_an_option_of_all_commands_after_a_command_is_told_its_place(cli: Commands) -> None:
    line = "--allow-import: belongs before the command: antiphon --allow-import PACKAGE run …"
    assert cli.refused("run --allow-import mine digits-mlp") == line
