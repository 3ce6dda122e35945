"""`antiphon diff`: the settings, the row and the tensor in which two runs differ, in words and as JSON, with an exit code."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from antiphon import Scenario, Simulation
from tests.kit.commands import Commands, run_command

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
telemetry: {period: 6}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "trio.yaml").write_text(DOCUMENT)
    assert run_command(["run", str(folder / "trio.yaml"), "--logdir", str(folder), "--name", "a"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _a_run(made: Path, here: Path) -> None:
    """The run, in a folder of one's own."""
    shutil.copytree(made / "a", "a")


def run(cli: Commands, name: str, document: str, *words: str) -> None:
    """Make a run called `name`."""
    Path(f"{name}.yaml").write_text(document)
    cli(f"run {name}.yaml --logdir . --name {name}", *words)


def diff(cli: Commands, words: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines on stdout."""
    code = cli.code("diff", words)
    return code, cli.out.splitlines()


def as_json(cli: Commands, words: str) -> dict[str, Any]:
    code = cli.code("diff", words, "--json")
    found: dict[str, Any] = json.loads(cli.out)
    assert code == (0 if found["same"] else 1)
    return found


def test_equal_runs(cli: Commands) -> None:
    run(cli, "b", DOCUMENT)
    assert diff(cli, "a b") == (
        0,
        [
            "A  a  trio · seed 0 · 12 steps",
            "B  b  trio · seed 0 · 12 steps",
            "",
            "settings: equal (scenario, changes during the run; of run.json seed, device, backend, dtype, "
            + "matmul_precision, threads, together, parts, virtual, stacked, alone_from, weights, git, versions)",
            "metrics.csv: equal at step 1, 6, 12",
            "checkpoints: equal at step 12",
            "Everything that both runs recorded is bit-identical.",
        ],
    )
    found = as_json(cli, "a b")
    assert found == {
        "same": True,
        "runs": ["a", "b"],
        "settings": [],
        "not_recorded": [],
        "steps": [1, 6, 12],
        "metric": None,
        "checkpoints": [12],
        "tensor": None,
    }


def test_how_agents_were_computed_is_named(cli: Commands) -> None:
    """It decides the last bits, as `alone_from` of one of several seeds does."""
    with Simulation(Scenario.from_yaml(DOCUMENT), logdir="b", stacked=False) as simulation:
        simulation.run(12)
    assert ["run", "stacked"] in [one["path"] for one in as_json(cli, "a b")["settings"]]


def test_a_change_in_mid_run_is_named(cli: Commands) -> None:
    Path("trio.yaml").write_text(DOCUMENT)
    for name, rate in (("b", 0.02), ("c", 0.03)):
        with Simulation("trio.yaml", logdir=name) as simulation:
            simulation.run(6)
            simulation.set("ear.learning_rate", rate)
            simulation.run()
    code, lines = diff(cli, "a b")
    assert code == 1
    assert [line.split() for line in lines[3:6:2]] == [
        ["setting", "A", "B"],
        ["set", "ear.learning_rate", "at", "step", "6", "–", "0.02"],
    ]
    assert lines[-3].startswith("metrics.csv: the first difference is at step 12: agent 'ear', ")
    assert lines[-2].startswith(
        "checkpoints: the first difference is at step 12: agent 'ear', parameters '0.weight' ("
    )
    assert lines[-1] == "The runs differ."
    path = ["changes", "ear.learning_rate at step 6"]
    assert as_json(cli, "b c")["settings"] == [{"path": path, "values": {"a": 0.02, "b": 0.03}}]


def test_another_seed(cli: Commands) -> None:
    run(cli, "b", DOCUMENT, "--seed 1")
    found = as_json(cli, "a b")
    assert found["settings"] == [{"path": ["run", "seed"], "values": {"a": 0, "b": 1}}]
    assert found["steps"] == [1]
    metric = found["metric"]
    assert [metric[key] for key in ("step", "kind", "name", "metric")] == [1, "agent", "ear", "loss"]
    assert metric["a"] != metric["b"]
    tensor = found["tensor"]
    assert (tensor["step"], tensor["path"]) == (12, ["learners", "ear", "parameters", "0.weight"])
    assert 0 < tensor["largest"] < 10
    diff(cli, "a b")
    assert "seed (run.json)   0   1" in cli.out
    assert f"step 1: agent 'ear', loss: {metric['a']!r} and {metric['b']!r}" in cli.out


def test_runs_without_a_name_in_common_are_not_equal(cli: Commands) -> None:
    run(cli, "b", re.sub(r"\b(eye|ear|mind)\b", r"left_\1", DOCUMENT))
    code, lines = diff(cli, "a b")
    assert code == 1
    assert lines[-3:] == [
        "metrics.csv: nothing in common",
        "checkpoints: nothing in common",
        "Nothing can be compared.",
    ]
    found = as_json(cli, "a b")
    assert [found[key] for key in ("same", "steps", "checkpoints")] == [None, [], []]


LISTENER = "  lip: {objective: {kind: classification, target: label}, observes: [image]}\n  mind:"


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("before", "after", "code", "lines"),
    [
        (
            "hidden: [4]",
            "hidden: [6]",
            1,
            ("agent ear, mind: network.hidden   [4]   [6]", "(different shape or dtype)"),
        ),
        ("to: ear, size: 3", "to: ear, size: 4", 1, ("channel eye->ear: size ",)),
        ("  mind:", LISTENER, 0, ("agent lip", "metrics.csv: equal at step 1, 6, 12")),
        (
            "period: 6",
            "period: 4",
            0,
            ("telemetry.period   6   4", "metrics.csv: equal at step 1\n", "equal at step 12"),
        ),
    ],
)
def test_what_differs_is_named_and_what_one_run_alone_recorded_is_no_difference(
    cli: Commands, before: str, after: str, code: int, lines: tuple[str, ...]
) -> None:
    run(cli, "b", DOCUMENT.replace(before, after))
    assert diff(cli, "a b")[0] == code
    assert all(line in cli.out for line in lines)


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("run.json", None, "b: no run there (a run directory holds run.json)"),
        ("run.json", "{", "b/run.json: is damaged"),
        ("scenario.yaml", "a: [", "b/scenario.yaml: is damaged"),
        ("scenario.yaml", None, "b/scenario.yaml: is missing"),
        ("metrics.csv", "rubbish\n", "b/metrics.csv: is damaged"),
        (
            "checkpoints/step-000000012/state.safetensors",
            "rubbish",
            "b/checkpoints/step-000000012/state.safetensors: ",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(cli: Commands, file: str, content: str | None, line: str) -> None:
    shutil.copytree("a", "b")
    (Path("b") / file).unlink()
    if content is not None:
        (Path("b") / file).write_text(content)
    assert cli.refused("diff a b").startswith(line)
