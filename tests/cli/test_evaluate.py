"""`antiphon evaluate` in this process: links, ablation, value, and its one-line refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.kit.commands import Commands, run_command

TINY = ["--steps", "20", "--set", "depth=3", "--set", "width=8", "--set", "batch=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three agents."""
    folder = tmp_path_factory.mktemp("runs")
    assert run_command(["run", "digits-mlp", *TINY, "--name", "a", "--logdir", str(folder)]) == 0
    return folder / "a"


def test_links_as_run_lose_what_they_are_told(run: Path, cli: Commands) -> None:
    perfect = cli.json("evaluate", run)
    assert (perfect["links"], perfect["drop"]) == ("perfect", None)
    clean = cli.json("evaluate", run, "--links as_run")
    assert clean["accuracy"] == perfect["accuracy"]
    lossy = cli.json("evaluate", run, "--links as_run --drop 0.9")
    assert lossy["loss"] != clean["loss"]
    assert lossy == cli.json("evaluate", run, "--links as_run --drop 0.9")
    assert "links as in the run, 90.00 % lost" in cli("evaluate", run, "--links as_run --drop 0.9")
    line = "inputs: no channel has a synthetic input that could be left out; leave inputs out"
    assert line in cli.refused("evaluate", run, "--links as_run --no-inputs")


def test_the_folder_of_runs_or_a_name_of_none_names_a_run(run: Path, cli: Commands) -> None:
    assert cli.refused("evaluate", run.parent).endswith(f"; did you mean '{run}'?")
    assert cli.refused("evaluate", run.with_name("aa")).endswith(f"; did you mean '{run}'?")


def test_ablation_ranks_the_channels_each_with_one_word(run: Path, tmp_path: Path, cli: Commands) -> None:
    own = Path(shutil.copytree(run, tmp_path / "own"))
    found = cli.json("evaluate", own, "--ablate resample --examples 100")["ablation"]
    assert (found["kind"], found["measure"], found["count"]) == ("resample", "loss", 100)
    assert sorted(found["ranked"]) == ["n0->n1", "n1->n2"]
    cli("evaluate", own, "--ablate mean --links as_run --channels n0->n1")
    assert "Without each channel (mean): change over 360 examples, links as in the run (loss " in cli.out
    (row,) = (line.split() for line in cli.out.splitlines() if line.startswith("n0->n1"))
    assert {"helps", "harms", "unresolved"} & {*row}
    assert "n1->n2" not in cli.out


SYMBOLS = """
scenario: words
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image], network: {kind: mlp, hidden: [8]}}
  b: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [8]}}
channels:
  - {from: a, to: b, sample: {kind: gumbel, vocabulary: 4, size: 2}}
training: {batch: 16}
"""


def test_language_is_measured_and_kept(here: Path, cli: Commands) -> None:
    run = cli.trained(SYMBOLS, "--steps 5")
    found = cli.json("evaluate", run, "--language --examples 200")["language"]["a->b"]
    assert (found["messages"], len(found["entropy"])) == (200, 2)
    assert found["message_entropy"] <= sum(found["entropy"]) + 1e-9
    assert 0 <= found["information"]["label"] <= found["message_entropy"] + 1e-9
    kept = json.loads((run / "measured.json").read_text())["language"]
    assert kept["channels"]["a->b"] == found
    text = cli("evaluate", run, "--language")
    assert "about label" in text
    assert "topographic" in text


@pytest.mark.long
def test_the_value_of_a_channel_and_of_all_together(run: Path, cli: Commands) -> None:
    words = "--value --horizon 2 --repeats 2 --channels n0->n1"
    found = cli.json("evaluate", run, words)["value"]
    assert (found["horizon"], found["repeats"]) == (2, 2)
    assert [row["name"] for row in found["rows"]] == ["all channels", "n0->n1"]
    table = cli("evaluate", run, words)
    assert "Value over 2 steps, 2 repeats" in table
    assert any(b"channel/loss_zero" in path.read_bytes() for path in run.glob("events.*"))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--drop 0.2", "drop: perfect links lose nothing, got 0.2; use links 'as_run'"),
        ("--no-inputs", "perfect links use no synthetic inputs"),
        (
            "--language",
            "language: no channel carries symbols; give one `sample: {kind: gumbel, vocabulary: …}`",
        ),
        ("--ablate zero --channels n0->n2", "no channel 'n0->n2'"),
        ("--ablate zero --episodes 2", "episodes has no effect here: no agent has a policy"),
        ("--value --channels n0->n9", "n0->n9"),
        ("--examples 5", "--examples: has no effect here; use it with --ablate or --language"),
        ("--channels n0->n1", "--channels: has no effect here"),
        ("--horizon 5", "--horizon: has no effect here; use it with --value"),
    ],
)
def test_bad_input_is_one_line(run: Path, words: str, problem: str, cli: Commands) -> None:
    assert problem in cli.refused("evaluate", run, words)
