"""The command line on scenarios in time: run, stop, go on, evaluate, and every bad input one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import Commands

Document = dict[str, Any]

SMALL = {
    "two-timescales": "T=2 hidden=6 size=4 units=5 batch=4",
    "three-timescales": "hidden=6 size=4 units=5 batch=4",
    "clockwork": "hidden=6 size=4 units=5 batch=4",
    "char-lm": "hidden=6 units=5 batch=4",
    "copy": "hidden=6 units=5 batch=4",
    "repeat-copy": "hidden=6 units=5 batch=4",
}


@pytest.fixture(autouse=True)
def _data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for texts."""
    (here / "data" / "text").mkdir(parents=True)
    monkeypatch.setenv("ANTIPHON_DATA", str(here / "data"))


def small(name: str) -> str:
    """The words that make a scenario a small one."""
    return " ".join(f"--set {setting}" for setting in SMALL[name].split())


def metrics(result: Document) -> Document:
    return {key: result[key] for key in ("accuracy", "bits", "loss", "env", "agents", "channels")}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "char-lm" else pytest.mark.long) for name in SMALL],
)
def test_every_scenario_runs_and_so_does_its_resolved_document(name: str, here: Path, cli: Commands) -> None:
    assert ":state (decoupled)" in cli("show", name, "--timeline --steps 20", small(name))
    (here / "resolved.yaml").write_text(cli("show", name, "--resolved", small(name)))
    results = [
        cli.json("run", words, "--steps 11 --logdir . --name", run)
        for run, words in (("a", f"{name} {small(name)}"), ("b", "resolved.yaml"))
    ]
    assert metrics(results[0]) == metrics(results[1])
    assert results[0]["agents"][next(iter(results[0]["agents"]))]["updates"] > 1


@pytest.mark.long
def test_a_hierarchy_is_evaluated_as_it_runs_and_a_copy_task_not_at_all(
    cli: Commands,
) -> None:
    how = "--steps 8 --logdir . --name"
    first = cli.json("run two-timescales", small("two-timescales"), how, "a")
    again = cli.json("evaluate a")
    assert again["agents"]["A"]["accuracy"] == first["agents"]["A"]["accuracy"]
    assert cli.json("evaluate a --split validation")["agents"] != again["agents"]
    lost = cli.json("evaluate a --links as_run --drop 1")
    assert lost["agents"]["A"] == again["agents"]["A"]
    assert lost["agents"]["B"] != again["agents"]["B"]
    line = cli.refused("evaluate a --ablate zero")
    assert line.startswith("ablate: needs single examples")
    copied = cli.json("run copy", small("copy"), how, "c")
    assert copied["env"].keys() == {"difficulty", "solved", "bits"}
    line = cli.refused("evaluate c")
    assert "no splits to evaluate on; its own metrics in the run show progress" in line


def text(here: Path, name: str, content: bytes | str) -> str:
    """Write a text; return the words that run the scenario on it."""
    raw = content.encode() if isinstance(content, str) else content
    (here / "data/text" / f"{name}.txt").write_bytes(raw)
    return f"char-lm {small('char-lm')} --set text={name} --steps 6 --logdir . --name a"


PROSE = "it was the best of times, it was the worst of times; " * 60


def test_a_run_does_not_go_on_with_another_text(here: Path, cli: Commands) -> None:
    cli.json("run", text(here, "mine", PROSE))
    text(here, "mine", PROSE.replace("best", "tesb"))  # the same classes
    line = cli.refused("resume a --steps 9")
    assert "env: the state is of other data or splits (SHA-256 " in line
    assert "restore the file that it was saved with" in cli.refused("evaluate a")
    (here / "data/text/mine.txt").unlink()
    assert "no text 'mine'" in cli.refused("resume a --steps 9")
    text(here, "mine", PROSE)
    assert cli.json("resume a --steps 9")["steps"] == 9


def changed(found: Document, place: str, value: Any) -> None:
    """Change the value at a place of a document, as its keys joined by dots."""
    *parts, last = place.split(".")
    part: Any = found
    for key in parts:
        part = part[int(key) if isinstance(part, list) else key]
    part[last] = value
