"""`antiphon diff`: where two runs part, in words and as JSON, with an exit code of its own."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from antiphon.cli import main
from antiphon.engine.runs.trainer import stop_signals

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


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(name: str, document: str = DOCUMENT, *words: str) -> Path:
    """Make a run called `name`."""
    Path(f"{name}.yaml").write_text(document)
    assert main(["run", f"{name}.yaml", "--logdir", ".", "--name", name, *words]) == 0
    return Path(name)


def diff(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Return the exit code and what is printed on stdout."""
    capsys.readouterr()
    code = main(["diff", *words])
    return code, capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, text = diff(capsys, *words, "--json")
    found: dict[str, Any] = json.loads(text)
    assert text.count("\n") == 1
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


def test_equal_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b")
    code, text = diff(capsys, "a", "b")
    assert code == 0
    assert text.startswith("A  a  trio · seed 0 · 12 steps\nB  b  trio · seed 0 · 12 steps\n")
    assert "settings: nothing differs" in text
    last = "The runs are the same to the last bit in all 3 rows that both have (steps 1 to 12)."
    assert text.splitlines()[-1] == last
    found = as_json(capsys, "a", "b")
    assert (found["summary"], found["replay"], found["figures"], found["settings"]) == (last, None, None, [])
    assert found["digests"]["compared"] == [1, 6, 12]


def test_how_often_rows_are_written_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b", DOCUMENT.replace("every: 6", "every: 4"))
    code, text = diff(capsys, "a", "b")
    assert code == 0
    assert "telemetry.every   6   4" in text
    assert "in all 2 rows that both have (steps 1 to 12)" in text


def test_a_resumed_run_is_the_run_that_never_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b", DOCUMENT, "--steps", "6")
    document = Path("b/scenario.yaml")
    document.write_text(document.read_text().replace("steps: 6", "steps: 12"))
    assert main(["resume", "b", "--steps", "12"]) == 0
    assert Path("a/digests.csv").read_bytes() == Path("b/digests.csv").read_bytes()
    assert diff(capsys, "a", "b")[0] == 0


def test_another_seed(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b", DOCUMENT, "--seed", "1")
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "seed (run.json)   0   1" in text
    assert "run again from step 0 to 1; both are what they recorded" in text
    assert text.splitlines()[-1].startswith(
        "The runs part before the first step: agent 'ear', tensor '0.weight' (largest difference 0."
    )
    assert text.splitlines()[-1].endswith("12 of 12 numbers).")


def test_another_learning_rate(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b", DOCUMENT.replace("lr: 0.01", "lr: 0.02"))
    found = as_json(capsys, "a", "b")
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


def test_the_first_cause_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Weights of the losses act by way of gradients; nothing else of the step differs before them."""
    run("a")
    run("b", DOCUMENT.replace("target: label}, network", "target: label, weight: 0.5}, network", 1))
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "agent ear: objective.weight" in text
    assert "; first of all, in that step, the gradient of agent 'ear', tensor 'objective.bias' (" in text


def test_a_record_that_cannot_be_reproduced(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    shutil.copytree("a", "b")
    rewritten(Path("b"), 12, "agent:mind")
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "digests: the same up to step 6, apart at step 12 in 1 of 5: agent mind" in text
    assert "run B does not reproduce here: at step 12 something else has been learned" in text
    assert "  run again here, both are the same to the last bit" in text
    last = "The runs part between steps 6 and 12: agent mind. Run again here, B is not what it recorded."
    assert text.splitlines()[-1] == last
    found = as_json(capsys, "a", "b")
    assert found["replay"]["not_reproducible"] == [
        None,
        {"step": 12, "different": [{"kind": "agent", "name": "mind"}]},
    ]
    assert found["checkpoints"] is None


def test_a_run_that_cannot_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b", DOCUMENT, "--seed", "1")
    Path("b/scenario.yaml").write_text("# No document: env: a Python object\n")
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "not run again: b: cannot be run again here: its scenario holds Python objects" in text
    last = text.splitlines()[-1]
    assert last.startswith(
        "The runs part by step 1, their first row: agents ear, eye, mind. In their checkpoints"
    )
    assert "of step 12: agent 'ear', tensor '0.weight' (largest difference 0." in last


def test_a_damaged_checkpoint_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    shutil.copytree("a", "b")
    rewritten(Path("b"), 12, "agent:mind")
    (Path("b/checkpoints/step-000000012") / "state.safetensors").write_bytes(b"rubbish")
    capsys.readouterr()
    assert main(["diff", "a", "b"]) == 1
    captured = capsys.readouterr()
    assert "warning: b/checkpoints/step-000000012: state.safetensors is not what was written" in captured.err
    assert captured.out.splitlines()[-1].startswith("The runs part between steps 6 and 12: agent mind.")


def test_runs_without_digests_are_compared_by_figures(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    shutil.copytree("a", "same")
    run("b", DOCUMENT, "--seed", "1")
    Path("a/digests.csv").unlink()
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "no digests.csv in a: compared by metrics.csv" in text
    assert text.splitlines()[-1].startswith("The figures part at step 1: 'loss' of agent 'ear' is ")
    found = as_json(capsys, "a", "b")
    assert (found["digests"], found["figures"]["first_different"]["metric"]) == (None, "loss")
    code, text = diff(capsys, "a", "same")
    assert code == 0
    assert "The figures are the same in all 3 rows" in text
    Path("a/metrics.csv").unlink()
    found = as_json(capsys, "a", "same")
    assert found["same"] is None
    assert found["summary"].startswith("Nothing can be compared: a run has no digests.csv")


def test_runs_with_other_agents(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    listener = "  lip: {objective: {kind: classification, target: label}, observes: [image]}\n  mind:"
    run("b", DOCUMENT.replace("  mind:", listener))
    code, text = diff(capsys, "a", "b")
    assert code == 0
    assert "only in B: agent lip" in text
    assert "same to the last bit, in the 5 agents and channels that both have, in all 3 rows" in text
    run("c", DOCUMENT.replace("eye", "lens").replace(" ear", " lobe").replace("mind", "self"))
    found = as_json(capsys, "a", "c")
    assert found["same"] is None
    assert found["summary"] == "Nothing can be compared: the runs have no agent or channel of the same name."


def test_runs_without_a_common_row(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    shutil.copytree("a", "b")
    header = Path("b/digests.csv").read_text().splitlines()[0]
    Path("b/digests.csv").write_text(header + "\n")
    found = as_json(capsys, "a", "b")
    assert found["same"] is None
    assert "no row of digests at the same step" in found["summary"]


def test_many_agents_that_differ_alike_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    run("b", DOCUMENT.replace("hidden: [4]", "hidden: [6]"))
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "agent ear, mind: network.hidden   [4]   [6]" in text
    assert "tensor '0.weight' (4 x 3 against 6 x 3)." in text
    assert "optimiser of" not in text  # its moments are zeros before the first step


def test_names_of_folders_are_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    run("a")
    shutil.copytree("a", "[red]b")
    assert "B  [red]b  trio" in diff(capsys, "a", "[red]b")[1]


def test_ctrl_c_leaves_it_at_the_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("a")
    run("b", DOCUMENT, "--seed", "1")
    manager = stop_signals

    class Pressed:
        """A context in which Ctrl-C has been pressed."""

        def __init__(self) -> None:
            self._inner = manager()

        def __enter__(self) -> list[int]:
            return [*self._inner.__enter__(), 2]

        def __exit__(self, *error: object) -> None:
            self._inner.__exit__(None, None, None)

    monkeypatch.setattr("antiphon.commands.diff.stop_signals", Pressed)
    code, text = diff(capsys, "a", "b")
    assert code == 1
    assert "run again from step 0 to 0, where it was stopped" in text


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("run.json", None, "b: no run there (a run directory holds run.json)"),
        ("run.json", "{", "b/run.json: is damaged"),
        ("scenario.yaml", "a: [", "b/scenario.yaml:1: broken YAML"),
        ("scenario.yaml", None, "b/scenario.yaml: cannot be read"),
        ("digests.csv", "rubbish\n", "b/digests.csv:1: no table of digests"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], file: str, content: str | None, line: str
) -> None:
    run("a")
    shutil.copytree("a", "b")
    (Path("b") / file).unlink()
    if content is not None:
        (Path("b") / file).write_text(content)
    capsys.readouterr()
    assert main(["diff", "a", "b"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {line}")
    assert captured.err.count("\n") == 1
