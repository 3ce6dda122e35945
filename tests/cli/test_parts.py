"""The command line of runs in parts and in virtual time: `run --parts`, `run --cluster`, `resume`, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.distributed.parts.rings import document
from tests.distributed.parts.stages import stages
from tests.kit.commands import Commands
from tests.kit.recorded import metrics
from tests.running.left import state


@pytest.fixture(autouse=True)
def _documents(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenarios and a cluster in the working directory, which is where runs are too."""
    monkeypatch.delenv("ANTIPHON_LOGDIR")
    write("ring.yaml")
    Path("stages.yaml").write_text(stages(steps=40).to_yaml(), encoding="utf-8")
    Path("mine.yaml").write_text(CLUSTER, encoding="utf-8")


def write(name: str, steps: int = 24, **keys: Any) -> None:
    Path(name).write_text(yaml.safe_dump(document(steps, **keys), sort_keys=False), encoding="utf-8")


def facts(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "run.json").read_text(encoding="utf-8"))
    return found


RESUMED = ("--parts 3", "--parts 1", "--parts *=1 --parts c=0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--parts a=0", "place: no part for b, c, d; place every agent"),
        ("--parts x=0", "--parts x=0: no agent 'x'; known: a, b, c, d"),
        ("--parts a=one", "--parts a=one: must be a number of parts, or AGENT=PART"),
        ("--parts 9", "parts: 9; the number of agents is 4; use at most 4"),
        ("--parts 2 --ray=here", "ray: nothing answers at 'here' ("),
        ("--parts 2 --backend native", "parts: the native backend computes in one process"),
        ("--parts 0", "parts.count: must be at least 1, not 0"),
        ("--ray 10.0.0.1:6379", "parts: count is missing; give it, or a placement of the agents"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_directory(
    options: str, message: str, cli: Commands
) -> None:
    assert cli.refused("run ring.yaml --name a", options).startswith(message)
    assert not Path("runs").exists()


@pytest.mark.long
@pytest.mark.parametrize("parts", ["", *(pytest.param(more, marks=pytest.mark.nightly) for more in RESUMED)])
def test_parts_compute_what_one_computes_and_are_resumed_in_any_others(parts: str, cli: Commands) -> None:
    write("lossy.yaml", drop=0.2, noise=0.1)
    cli("run lossy.yaml --name one --steps 24")
    cli("run lossy.yaml --name two --steps 16 --parts 2")
    division = facts("runs/two")["parts"]
    assert (division["count"], "ray" in division) == (2, False)
    cli(f"resume runs/two --steps 24 {parts}")
    assert facts("runs/one").get("parts") is None
    assert metrics("runs/one") == metrics("runs/two")
    assert state(Path("runs/one")) == state(Path("runs/two"))
    counts = {"": 2, "--parts 3": 3, "--parts 1": None, "--parts *=1 --parts c=0": 2}
    division = facts("runs/two")["parts"]
    assert (division and division["count"]) == counts[parts]


# --- virtual time ----------------------------------------------------------------------------------------


CLUSTER = """
cluster: mine
machines: {m: {count: 3}}
compute: {step: 1, spread: 0.2, stragglers: {share: 0.1, factor: 6}}
links: [{between: [m, m], latency: 1.5, jitter: 0.3, loss: 0.02}]
"""
RUN = "run stages.yaml --cluster mine.yaml"


def parts(run: str) -> list[dict[str, str]]:
    with Path(run, "parts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
    assert "no run in virtual time can be resumed; start a new one" in cli.refused(
        "resume runs/one --steps 44"
    )
