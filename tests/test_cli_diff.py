"""`antiphon diff`: where two runs part, in words and as JSON, with an exit code of its own."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.cli import main
from antiphon.engine.runs.run_loop import stop_signals
from tests.commands import Commands
from tests.resigned import resign

DOCUMENT = """
scenario: trio
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image], network: {kind: mlp, hidden: [5]}}
  ear: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [4]}}
  mind: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [4]}}
channels:
- {from: eye, to: ear, size: 3, link: {delay: 1}, gradient: {kind: linear, context: [label]}}
- {from: eye, to: mind, size: 3, link: {delay: 1}, gradient: {kind: linear, context: [label]}}
training: {batch: 4, steps: 12, optimiser: {kind: adam, lr: 0.01}}
telemetry: {every: 6}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and one of another seed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "trio.yaml").write_text(DOCUMENT)
    for seed in ("0", "1"):
        words = ["run", str(folder / "trio.yaml"), "--logdir", str(folder), "--name", f"seed{seed}"]
        assert main([*words, "--seed", seed]) == 0
    return folder


@pytest.fixture(autouse=True)
def _a_run(made: Path, here: Path) -> None:
    """A run called a, in a folder of one's own."""
    shutil.copytree(made / "seed0", "a")


@pytest.fixture
def seeded(made: Path, _a_run: None) -> Path:
    """Another run, of another seed."""
    return Path(shutil.copytree(made / "seed1", "b"))


@pytest.fixture
def copied(_a_run: None) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree("a", "b"))


def run(cli: Commands, name: str, document: str, *words: str) -> Path:
    """Make a run called `name`."""
    Path(f"{name}.yaml").write_text(document)
    cli(f"run {name}.yaml --logdir . --name {name}", *words)
    return Path(name)


def diff(cli: Commands, *words: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines on stdout."""
    code = cli.code("diff", *words)
    return code, cli.out.splitlines()


def as_json(cli: Commands, *words: str) -> dict[str, Any]:
    code, (line,) = diff(cli, *words, "--json")
    found: dict[str, Any] = json.loads(line)
    assert code == (0 if found["same"] else 1)
    return found


def rewritten(run: Path, step: int, column: str) -> None:
    """Change one digest of a record."""
    with (run / "digests.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    place = rows[0].index(column)
    row = next(row for row in rows if row[0] == str(step))
    row[place] = "f" * 16
    with (run / "digests.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    resign(run)


def test_equal_runs(cli: Commands) -> None:
    run(cli, "b", DOCUMENT)
    code, lines = diff(cli, "a b")
    assert code == 0
    assert lines[:2] == ["A  a  trio · seed 0 · 12 steps", "B  b  trio · seed 0 · 12 steps"]
    assert "settings: nothing differs" in cli.out
    last = "The runs are the same to the last bit in all 3 rows that both have (steps 1 to 12)."
    assert lines[-1] == last
    found = as_json(cli, "a b")
    assert (found["summary"], found["replay"], found["figures"], found["settings"]) == (last, None, None, [])
    assert found["digests"]["compared"] == [1, 6, 12]


def test_python_objects_are_compared_by_digest_and_named_since_their_code_is_not(cli: Commands) -> None:
    record = "# No document: env: a Python object\nscenario: own\nenv: {python: Env, digest: '00'}\n"
    shutil.copytree("a", "b")
    for name in "ab":
        (Path(name) / "scenario.yaml").write_text(record)
        resign(Path(name))
    diff(cli, "a b")
    assert "settings: nothing differs" not in cli.out
    assert "not compared: the code of Python objects, which runs do not record: env" in cli.out
    assert as_json(cli, "a b")["not_recorded"] == ["env"]
    (Path("b") / "scenario.yaml").write_text(record.replace("00", "11"))
    resign(Path("b"))
    assert as_json(cli, "a b")["settings"] == [
        {"part": "scenario", "name": "", "key": "env.digest", "a": "00", "b": "11"}
    ]


def test_how_often_rows_are_written_changes_nothing(cli: Commands) -> None:
    run(cli, "b", DOCUMENT.replace("every: 6", "every: 4"))
    assert diff(cli, "a b")[0] == 0
    assert "telemetry.every   6   4" in cli.out
    assert "in all 2 rows that both have (steps 1 to 12)" in cli.out


def test_a_resumed_run_is_the_run_that_never_stopped(cli: Commands) -> None:
    document = run(cli, "b", DOCUMENT, "--steps 6") / "scenario.yaml"
    document.write_text(document.read_text().replace("steps: 6", "steps: 12"))
    resign(Path("b"))
    cli("resume b --steps 12")
    assert Path("a/digests.csv").read_bytes() == Path("b/digests.csv").read_bytes()
    assert diff(cli, "a b")[0] == 0


def test_another_seed(seeded: Path, cli: Commands) -> None:
    code, lines = diff(cli, "a b")
    assert code == 1
    assert "seed (run.json)   0   1" in cli.out
    assert "run again from step 0 to 1; both are what they recorded" in cli.out
    assert lines[-1].startswith(
        "The runs part before the first step: agent 'ear', tensor '0.weight' (largest difference 0."
    )
    assert lines[-1].endswith("12 of 12 numbers).")


def test_another_learning_rate(cli: Commands) -> None:
    run(cli, "b", DOCUMENT.replace("lr: 0.01", "lr: 0.02"))
    found = as_json(cli, "a b")
    lr = {"part": "scenario", "name": "", "key": "training.optimiser.lr", "a": 0.01, "b": 0.02}
    assert found["settings"] == [lr]
    assert found["digests"]["last_equal"] is None
    assert found["digests"]["first_different"] == 1
    assert {"kind": "agent", "name": "ear"} in found["digests"]["different"]
    replay = found["replay"]
    assert (replay["step"], replay["not_reproducible"], replay["stopped"]) == (1, [None, None], False)
    first = {key: replay["first"][key] for key in ("step", "what", "kind", "name")}
    assert first == {"step": 1, "what": "parameter", "kind": "agent", "name": "ear"}
    assert found["summary"].startswith(
        "The runs part at step 1: agent 'ear', tensor 'objective.bias' (largest "
    )


def test_the_first_cause_is_named(cli: Commands) -> None:
    """Weights of the losses act by way of gradients; nothing else of the step differs before them."""
    run(cli, "b", DOCUMENT.replace("target: label}, network", "target: label, weight: 0.5}, network", 1))
    assert diff(cli, "a b")[0] == 1
    assert "agent ear: objective.weight" in cli.out
    assert "; first of all, in that step, the gradient of agent 'ear', tensor 'objective.bias' (" in cli.out


def test_a_record_that_cannot_be_reproduced(copied: Path, cli: Commands) -> None:
    rewritten(copied, 12, "agent:mind")
    code, lines = diff(cli, "a b")
    assert code == 1
    assert "digests: the same up to step 6, apart at step 12 in 1 of 5: agent mind" in cli.out
    assert "run B does not reproduce here: at step 12 something else has been learned" in cli.out
    assert "  run again here, both are the same to the last bit" in cli.out
    last = "The runs part between steps 6 and 12: agent mind. Run again here, B is not what it recorded."
    assert lines[-1] == last
    found = as_json(cli, "a b")
    unlike = {"step": 12, "different": [{"kind": "agent", "name": "mind"}]}
    assert found["replay"]["not_reproducible"] == [None, unlike]
    assert found["checkpoints"] is None


def test_a_run_that_cannot_be_run_again(seeded: Path, cli: Commands) -> None:
    (seeded / "scenario.yaml").write_text("# No document: env: a Python object\n{}\n")
    resign(seeded)
    code, lines = diff(cli, "a b")
    assert code == 1
    assert "not run again: b: cannot be run again here: its scenario holds Python objects" in cli.out
    assert lines[-1].startswith(
        "The runs part by step 1, their first row: agents ear, eye, mind. In their checkpoints"
    )
    assert "of step 12: agent 'ear', tensor '0.weight' (largest difference 0." in lines[-1]


def test_a_damaged_checkpoint_is_a_warning(copied: Path, cli: Commands) -> None:
    rewritten(copied, 12, "agent:mind")
    (copied / "checkpoints/step-000000012" / "state.safetensors").write_bytes(b"rubbish")
    code, lines = diff(cli, "a b")
    assert code == 1
    assert "warning: b/checkpoints/step-000000012/state.safetensors: is not what was written" in cli.err
    assert lines[-1].startswith("The runs part between steps 6 and 12: agent mind.")


def test_runs_without_digests_are_compared_by_figures(seeded: Path, cli: Commands) -> None:
    shutil.copytree("a", "same")
    Path("a/digests.csv").unlink()
    code, lines = diff(cli, "a b")
    assert code == 1
    assert "no digests.csv in a: compared by metrics.csv" in cli.out
    assert lines[-1].startswith("The figures part at step 1: 'loss' of agent 'ear' is ")
    found = as_json(cli, "a b")
    assert (found["digests"], found["figures"]["first_different"]["metric"]) == (None, "loss")
    assert diff(cli, "a same")[0] == 0
    assert "The figures are the same in all 3 rows" in cli.out
    Path("a/metrics.csv").unlink()
    found = as_json(cli, "a same")
    assert found["same"] is None
    assert found["summary"].startswith("Nothing can be compared: a run has no digests.csv")


def test_runs_with_other_agents(cli: Commands) -> None:
    listener = "  lip: {objective: {kind: classification, target: label}, observes: [image]}\n  mind:"
    run(cli, "b", DOCUMENT.replace("  mind:", listener))
    assert diff(cli, "a b")[0] == 0
    assert "only in B: agent lip" in cli.out
    assert "same to the last bit, in the 5 agents and channels that both have, in all 3 rows" in cli.out
    run(cli, "c", DOCUMENT.replace("eye", "lens").replace(" ear", " lobe").replace("mind", "self"))
    found = as_json(cli, "a c")
    assert found["same"] is None
    assert found["summary"] == "Nothing can be compared: the runs have no agent or channel of the same name."


def test_runs_without_a_common_row(copied: Path, cli: Commands) -> None:
    header = (copied / "digests.csv").read_text().splitlines()[0]
    (copied / "digests.csv").write_text(header + "\n")
    resign(copied)
    found = as_json(cli, "a b")
    assert found["same"] is None
    assert "no row of digests at the same step" in found["summary"]


def test_many_agents_that_differ_alike_are_one_line(cli: Commands) -> None:
    run(cli, "b", DOCUMENT.replace("hidden: [4]", "hidden: [6]"))
    assert diff(cli, "a b")[0] == 1
    assert "agent ear, mind: network.hidden   [4]   [6]" in cli.out
    assert "tensor '0.weight' (4 x 3 against 6 x 3)." in cli.out
    assert "optimiser of" not in cli.out  # its moments are zeros before the first step


def test_names_of_folders_are_only_text(cli: Commands) -> None:
    shutil.copytree("a", "[red]b")
    diff(cli, "a [red]b")
    assert "B  [red]b  trio" in cli.out


def test_ctrl_c_leaves_it_at_the_rows(seeded: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def pressed() -> Iterator[list[int]]:
        with stop_signals() as received:
            yield [*received, 2]

    monkeypatch.setattr("antiphon.commands.diff.stop_signals", pressed)
    assert diff(cli, "a b")[0] == 1
    assert "run again from step 0 to 0, where it was stopped" in cli.out


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("run.json", None, "b: no run there (a run directory holds run.json)"),
        ("run.json", "{", "b/run.json: is not what was written"),
        ("scenario.yaml", "a: [", "b/scenario.yaml: is not what was written"),
        ("scenario.yaml", None, "b/scenario.yaml: is not there"),
        ("digests.csv", "rubbish\n", "b/digests.csv: is not what was written"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    copied: Path, cli: Commands, file: str, content: str | None, line: str
) -> None:
    (copied / file).unlink()
    if content is not None:
        (copied / file).write_text(content)
    assert cli.refused("diff a b").startswith(line)
