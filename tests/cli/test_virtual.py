"""The command line of runs in virtual time: `run --cluster`, `resume`, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.parts.stages import stages
from tests.kit.commands import Commands
from tests.running.left import acting, signalled, state

CLUSTER = """
cluster: mine
machines: {m: {count: 3}}
compute: {step: 1, spread: 0.2, stragglers: {share: 0.1, factor: 6}}
links: [{between: [m, m], latency: 1.5, jitter: 0.3, loss: 0.02}]
"""
RUN = "run stages.yaml --cluster mine.yaml"


@pytest.fixture(autouse=True)
def _documents(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario and a cluster in the working directory, which is where runs are too."""
    monkeypatch.delenv("ANTIPHON_LOGDIR")
    Path("stages.yaml").write_text(stages(steps=40).to_yaml(), encoding="utf-8")
    Path("mine.yaml").write_text(CLUSTER, encoding="utf-8")


def parts(run: str) -> list[dict[str, str]]:
    with Path(run, "parts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def facts(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "run.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.long
def test_the_run_directory_says_where_it_was_and_every_command_reads_it(cli: Commands) -> None:
    cli(f"{RUN} --name one --parts s0=0 --parts s1=1 --parts s2=1")
    found = facts("runs/one")
    assert found["backend"] == "cohort"
    division = found["parts"]
    assert (division["count"], division["placement"]) == (2, {"s0": 0, "s1": 1, "s2": 1})
    assert division["cluster"]["cluster"] == "mine"
    rows = parts("runs/one")
    assert {row["machine"] for row in rows} == {"m-0", "m-1"}
    assert float(rows[-1]["seconds"]) > 20
    assert cli.json("evaluate runs/one")["examples"] == 360
    cli("report runs/one --output one.html")
    assert "m-1" in Path("one.html").read_text(encoding="utf-8")
    assert cli.json(f"{RUN} --name one --parts s0=0 --parts s[12]=1 --exist resume")["exit"] == "done"
    assert cli.json("resume runs/one --steps 44")["steps"] == 44


@pytest.mark.parametrize("parts", ["", pytest.param("--parts s0=0 --parts s[12]=1", marks=pytest.mark.long)])
def test_the_command_of_a_run_that_was_stopped_goes_on_with_it(parts: str, cli: Commands) -> None:
    run = f"{RUN} {parts} --steps 12 --checkpoint-every 4"
    cli(f"{run} --name one")
    with acting(7, signalled()):
        assert cli.code(f"{run} --name two") == 130
    Path("mine.yaml").write_text(f"# the same, described anew\n{CLUSTER}", encoding="utf-8")
    cli(f"{run} --name two --exist resume")
    assert state(Path("runs/two")) == state(Path("runs/one"))
    Path("mine.yaml").write_text(CLUSTER.replace("loss: 0.02", "loss: 0.03"), encoding="utf-8")
    assert "(cluster is mine, not another mine)" in cli.refused(f"{run} --name two --exist resume")
