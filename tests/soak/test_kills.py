"""kill -9 at random moments: what is resumed ends with the bits and the event files of the run that nobody killed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from antiphon.engine.runs.library import template_named
from tests.engine.parts.rings import document
from tests.engine.parts.stages import stages
from tests.soak.killed import contents, differences, ended

CHECKPOINTS = "--checkpoint-every 6"
STEPS = 30
CLUSTER = """
cluster: mine
machines: {m: {count: 3}}
compute: {step: 1, spread: 0.2, stragglers: {share: 0.1, factor: 6}}
failures: {per_day: 1000, outage: 7, checkpoint: 5}
links: [{between: [m, m], latency: 1.5, jitter: 0.3, loss: 0.02}]
"""
STUDY = """
study: toy
rows: [digits-mlp]
variants: [locked, decoupled]
set: {width: 8, batch: 16}
metric: error
budgets:
  small: {steps: 40, seeds: 2}
"""
MOST_KILLS = 4
"""Of one run, before it is let go on to its end."""


def library(name: str, variant: str | None = None, telemetry: Any = None, **values: Any) -> str:
    """The document of a scenario of the library, with figures at every third step, and distributions."""
    data = yaml.safe_load(template_named(name).resolve(variant, values).to_yaml())
    data["telemetry"] = {**data.get("telemetry", {}), "every": 3, "histograms": True, **(telemetry or {})}
    data["training"]["steps"] = STEPS
    return yaml.safe_dump(data, sort_keys=False)


def ring() -> str:
    return yaml.safe_dump(document(STEPS, drop=0.2, noise=0.1), sort_keys=False)


@dataclass(frozen=True)
class Killed:
    """A command that is killed.

    Attributes:
        texts: Makes its documents, by name of the file.
        words: The command line, which is the same when it is to go on.
        run: The run directory that `antiphon resume` may go on with instead; empty: several.
    """

    texts: Callable[[], dict[str, str]]
    words: str
    run: str = ""


def single(text: Callable[[], str], more: str = "") -> Killed:
    """A command that is one run."""
    words = f"run it.yaml --name it --resume-if-exists {CHECKPOINTS} {more}"
    return Killed(lambda: {"it.yaml": text()}, words, "runs/it")


VALUED = {"value": {"every": 10, "horizon": 3}}
COMMANDS = {
    "recurrent": single(lambda: library("copy", "decoupled")),
    "lossy": single(lambda: library("lossy")),
    "cohort": single(lambda: library("corporation", agents=6, readouts=2)),
    "acting": single(lambda: library("cartpole-team")),
    "valued": single(lambda: library("digits-mlp", "decoupled", VALUED, width=8, batch=16)),
    "seeds": Killed(
        lambda: {"it.yaml": library("digits-mlp", "decoupled", width=8, batch=16)},
        f"run it.yaml --seeds 3 --name it --resume-if-exists {CHECKPOINTS}",
    ),
    "parts": single(ring, "--parts 3"),
    "study": Killed(lambda: {"toy.yaml": STUDY}, "study toy.yaml --budget small --jobs 1 --logdir runs/toy"),
    "virtual": single(lambda: stages(steps=STEPS).to_yaml(), "--backend virtual --cluster mine.yaml"),
}


def folder_of(command: Killed, folder: Path) -> Path:
    """A working directory with the documents of a command."""
    folder.mkdir()
    for name, text in {**command.texts(), "mine.yaml": CLUSTER}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def words_of(command: Killed, folder: Path, chance: random.Random) -> list[str]:
    """The command line that goes on: the same again, or `resume`."""
    if command.run and (folder / command.run / "run.json").exists() and chance.random() < 0.5:
        return f"resume {command.run} {CHECKPOINTS}".split()
    return command.words.split()


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import here what runs import, once: processes that are forked off have it then."""
    from antiphon.cli import main

    folder = tmp_path_factory.mktemp("imported")
    for number, name in enumerate(("digits-mlp", "cartpole-team")):
        words = f"run {name} --steps 2 --name {number} --json --logdir {folder}"
        assert main(words.split()) == 0


@pytest.fixture(params=COMMANDS)
def unbroken(
    request: pytest.FixtureRequest, imported: None, tmp_path: Path
) -> tuple[str, dict[str, Any], float]:
    """A command by name, what it leaves when nobody kills it, and how long it takes (seconds)."""
    command = COMMANDS[request.param]
    found = []
    for name in ("first", "second"):  # of which the second finds everything in memory
        folder = folder_of(command, tmp_path / name)
        start = time.monotonic()
        code = ended(folder, command.words.split())
        seconds = time.monotonic() - start
        assert code == 0, (folder / "output.txt").read_text()
        found.append(contents(folder / "runs"))
    assert not differences(*found)
    return request.param, found[0], seconds


def test_what_is_killed_and_resumed_is_the_unbroken_run(
    unbroken: tuple[str, dict[str, Any], float], tmp_path: Path, rounds: int, record_property: Any
) -> None:
    name, expected, seconds = unbroken
    command, chance = COMMANDS[name], random.Random(f"{name} {rounds}")
    kills = chains = 0
    while kills < rounds:
        folder = folder_of(command, tmp_path / f"chain-{chains}")
        moments = []
        code = None
        for _ in range(min(chance.randint(1, MOST_KILLS), rounds - kills)):
            moments.append(chance.uniform(0, seconds))
            code = ended(folder, words_of(command, folder, chance), moments[-1])
            if code is not None:
                break
            kills += 1
        said = f"{name}, killed after {moments} of {seconds:.2f} s"
        if code is None:
            code = ended(folder, words_of(command, folder, chance))
        assert code == 0, f"{said}: {(folder / 'output.txt').read_text()[-2000:]}"
        found = differences(expected, contents(folder / "runs"))
        assert not found, "\n".join([said, *found])
        shutil.rmtree(folder)
        chains += 1
    record_property("kills", kills)
    print(f"{name}: {kills} kills in {chains} runs of {seconds:.2f} s")
