"""The command line, in this process: its help, what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

import antiphon
from antiphon.cli import app
from tests.kit import seams
from tests.kit.commands import Commands

VERBS = [command.name for command in app.registered_commands]
TINY = "--steps 6 --set depth=2 --set width=8 --set batch=16"
RUN = f"run digits-mlp {TINY} --logdir . --name a"


def test_run_prints_tables_and_where_to_look(here: Path, cli: Commands) -> None:
    assert cli("--version") == f"antiphon {antiphon.__version__}\n"
    assert cli() == cli("--help")
    assert "corporation" in cli("list")
    cli(f"run digits-mlp {TINY} --variant local --logdir mine --name exp1")
    assert "digits-mlp · local · seed 0 · 6 steps" in cli.out
    assert "n0->n1" in cli.out
    assert "TensorBoard  antiphon tb mine/exp1" in cli.out
    assert "\x1b" not in cli.out + cli.err
    assert (here / "mine/exp1/result.json").exists()


def test_run_names_directories_by_scenario_variant_seed_and_time(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    monkeypatch.setenv("ANTIPHON_LOGDIR", "elsewhere")
    monkeypatch.setattr("time.strftime", lambda form: "20300101-000000")
    for _ in range(2):
        cli(f"run digits-mlp {TINY} --seed 7")
    stem = "digits-mlp-default-s7-20300101-000000"
    assert sorted(path.name for path in (here / "elsewhere").iterdir()) == [stem, f"{stem}-2"]


def test_json_is_the_last_line_of_stdout(here: Path, cli: Commands) -> None:
    result = cli.json(RUN)
    assert cli.out.count("\n") == 1
    keys = {"scenario", "seed", "steps", "seconds", "run_dir", "readout", "accuracy", "agents", "channels"}
    assert keys | {"error", "bits", "env"} <= result.keys()
    head = [result[key] for key in ("scenario", "steps", "run_dir", "readout")]
    assert head == ["digits-mlp", 6, "a", "n1"]
    assert {"loss", "accuracy"} <= result["agents"]["n1"].keys()
    assert {"cosine", "norm_ratio", "sg_loss"} <= result["channels"]["n0->n1"].keys()
    assert result == json.loads((here / "a/result.json").read_text())


def test_exist_resume_starts_returns_and_refuses(here: Path, cli: Commands) -> None:
    results = [cli.json(RUN, "--exist resume") for _ in range(2)]
    assert results[0] == results[1]
    assert "seed is 0, not 4" in cli.refused(RUN, "--json --exist resume --seed 4")


@pytest.mark.long
def test_a_run_is_shown_resumed_and_evaluated(here: Path, cli: Commands) -> None:
    cli(RUN)
    assert "a run: seed 0, 6 steps, done" in cli("show a")
    assert cli("show a --yaml") == (here / "a/scenario.yaml").read_text()
    assert "no scenario './none'" in cli.refused("show ./none")
    result = cli.json("resume a --steps 9")
    assert result["steps"] == 9
    assert cli.json("resume a") == result
    assert "a: is done; --steps N continues" in cli.err
    evaluated = cli.json("evaluate a")
    assert (evaluated["accuracy"], evaluated["split"]) == (result["accuracy"], "test")
    assert "validation: 144 examples" in cli("evaluate a --split validation")
    assert "has done 9 already" in cli.refused("resume a --steps 3")
    assert cli.json("run a --steps 1 --name again --logdir .")["steps"] == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("run missing.yaml", "missing.yaml: no such file; give the path of a file"),
        ("run digits-mlp --steps 1e3", "Invalid value for '--steps'"),
        ("run digits-mlp --variant lokced", "no variant 'lokced'; did you mean 'locked'?"),
        (["run", "digits-mlp", "--set", "width=!!python/name:os.popen x"], "tags are not supported"),
        ("run digits-mlp --name ../a", "name: '../a' cannot name a run directory"),
        ("run digits-mlp --logdir file", "cannot be written (Not a directory)"),
        ("run mnist-mlp", "ANTIPHON_DATA"),
        ("show runs/none", "runs/none: no such file; give the path of a file"),
        (
            "show env antiphon/Digts-v0",
            "no environment 'antiphon/Digts-v0'; did you mean 'antiphon/Digits-v0'?",
        ),
        ("show digits-mlp --steps 3", "show: --steps has no effect here; use it with --timeline"),
        (
            "show lossy-links --variant locked",
            "show lossy-links: --variant and --timeline have no",
        ),
        ("run digits-mlp --exist resume", "--exist resume: needs the name of the run; give it with --name"),
        ("tb nothing", "nothing: no such folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    here: Path, cli: Commands, words: str | list[str], problem: str
) -> None:
    (here / "file").write_text("")
    assert problem in cli.refused(words)
    assert [path.name for path in here.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("run", "Missing argument 'SCENARIO'; see antiphon run --help"),
        ("evaluate a --ablate", "Option '--ablate' requires an argument; see antiphon --help"),
        ("rnu", "No such command 'rnu'. Did you mean 'run'?; see antiphon --help"),
        ("run digits-mlp --stesp 3", "No such option: --stesp (Possible options: "),
        ("--steps 3 run digits-mlp", "No such option: --steps"),
        ("run digits-mlp copy", "Got unexpected extra argument(s) (copy); see antiphon run --help"),
        ("tb --port 65536", "Invalid value for '--port': "),
    ],
)
def test_wrong_usage_is_one_line(words: str | list[str], problem: str, cli: Commands) -> None:
    assert cli.refused(words).startswith(problem)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            "digits-mlp --set depth=3",
            "linear, context: [label]; 1 x 8 x 8; classification, target: label",
        ),
        (
            "corporation --variant locked",
            "n01; learn as one network; the episode; patch_0; … and 20 more",
        ),
        (
            "env Digits-v0 --set patches=4 --set hold=2",
            "patch_3; training only; one of 10; each example for 2 steps",
        ),
        ("env SpeakerListener-v0 --set limit=9", "episodes of 9 steps; action of speaker: one of 3"),
    ],
)
def test_show_explains(words: str, parts: str, cli: Commands) -> None:
    text = cli("show", words)
    for part in parts.split("; "):
        assert part in text
    assert text.count("\n") < 150


def test_tb_opens_tensorboard_with_enough_samples(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    (here / "runs").mkdir()
    called: list[list[str]] = []
    monkeypatch.setattr(seams.TB_SERVE, called.append)
    monkeypatch.delenv("ANTIPHON_LOGDIR")
    cli("tb --port 7007")
    words = called[0]
    assert words[:2] == ["--logdir", "runs"]
    assert "scalars=10000" in words[3]
    assert words[-2:] == ["--port", "7007"]


@pytest.mark.filterwarnings("ignore:html5lib")
def test_tb_prints_the_address_of_the_channels_tab(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    """A port in use is one line."""
    (here / "runs").mkdir()
    program = import_module("tensorboard.program")

    class Board:
        def configure(self, words: Sequence[str]) -> None:
            self.words = words

        def launch(self) -> str:
            if "7008" in self.words:
                raise program.TensorBoardServerException("port 7008 is in use")
            return "http://localhost:7007/"

    monkeypatch.setattr(program, "TensorBoard", Board)
    monkeypatch.setattr("threading.Event.wait", lambda event: None)
    cli("tb runs --port 7007")
    assert cli.out.splitlines()[0].split() == ["Channels", "tab", "http://localhost:7007/#antiphon"]
    assert cli.code("tb runs --port 7008") == 2
    assert cli.err.strip().endswith("tb: port 7008 is in use; choose another --port")


# --- help ------------------------------------------------------------------------------------------------


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


def test_the_help_of_run_fits_one_screen(cli: Commands) -> None:
    lines = cli("run --help").splitlines()
    assert len(lines) < 30
    assert sum(line.startswith("  -") for line in lines) == 16  # fifteen, and --help
