"""The command line of runs in parts: `run --parts`, `resume` on any number of parts, kills and signals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.distributed.parts.rings import document
from tests.kit.commands import Commands
from tests.kit.recorded import metrics
from tests.running.left import state


@pytest.fixture(autouse=True)
def _ring(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring in the working directory, which is where runs are too."""
    monkeypatch.delenv("ANTIPHON_LOGDIR")
    write("ring.yaml")


def write(name: str, steps: int = 24, **keys: Any) -> None:
    Path(name).write_text(yaml.safe_dump(document(steps, **keys), sort_keys=False), encoding="utf-8")


def facts(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "run.json").read_text(encoding="utf-8"))
    return found


RESUMED = ("--parts 3", "--parts 1", "--parts *=1 --parts c=0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--parts a=0", "--parts: agent 'b' has no part; start with --parts '*=0' for all others"),
        ("--parts x=0", "--parts x=0: no agent 'x'; known: a, b, c, d"),
        ("--parts a=one", "--parts a=one: must be a number of parts, or AGENT=PART, as a=0"),
        ("--parts nothing.yaml", "--parts nothing.yaml: must be a number of parts, or AGENT=PART, as a=0"),
        ("--parts 9", "parts: 9; the number of agents is 4; use at most 4"),
        ("--parts 2 --ray=here", "ray: 'here' is not HOST:PORT; `ray start --head` prints it"),
        ("--parts 2 --backend native", "parts: the native backend computes in one process"),
        ("--parts 0", "--parts 0: must be a number of parts, or AGENT=PART"),
        ("--parts 1.5", "--parts 1.5: must be a number of parts"),
        ("--parts 2,3", "--parts 2,3: must be a number of parts, or AGENT=PART, as a=0"),
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
