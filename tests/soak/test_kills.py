"""kill -9, signals and full disks: what is resumed ends with the bits and the event files of the run that nobody killed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import antiphon
from tests.contracts.twins import differences
from tests.distributed.parts.rings import document
from tests.kit.commands import run_command
from tests.soak.killed import contents, ended

CHECKPOINTS = "--checkpoint-every 6"
STEPS = 30
STUDY = """
study: toy
scenario: digits-mlp
variants: [locked, decoupled]
set: {width: 8, batch: 16}
tune: {lr: [0.001, 0.01]}
metric: error
budgets:
  small: {steps: 40, seeds: 2}
"""
POPULATION = """
population: it
scenario: cartpole-team
members: 4
steps: 30
set: {width: 4, units: 4, batch: 4, unroll: 4}
vary: {lr: {from: 0.001, to: 1.0, log: true}, entropy: {from: 0.001, to: 0.1, log: true}}
select: {every: 7, by: episodes, copy: 0.5}
"""
LEAGUE = (
    POPULATION.replace("cartpole-team", "capture-flag")
    .replace("units: 4", "league: true, limit: 8")
    .replace("episodes", "rating")
)
MOST_KILLS = 4
"""Of one run, before it is let go on to its end."""


def library(name: str, variant: str | None = None, **values: Any) -> str:
    """The document of a scenario of the library, with metrics at every third step."""
    data = yaml.safe_load(antiphon.load(name).resolve(variant, values).to_yaml())
    data["telemetry"] = {**data.get("telemetry", {}), "period": 3}
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
    words = f"run it.yaml --name it --logdir runs --exist resume {CHECKPOINTS} {more}"
    return Killed(lambda: {"it.yaml": text()}, words, "runs/it")


COMMANDS = {
    "small": single(lambda: library("digits-mlp", "decoupled", depth=2, width=4, batch=4)),
    "recurrent": single(lambda: library("copy", "decoupled")),
    "lossy": single(lambda: library("lossy")),
    "cohort": single(lambda: library("corporation", agents=6, readouts=2)),
    "acting": single(lambda: library("cartpole-team")),
    "seeds": Killed(
        lambda: {"it.yaml": library("digits-mlp", "decoupled", width=8, batch=16)},
        f"run it.yaml --seeds 3 --name it --logdir runs --exist resume {CHECKPOINTS}",
    ),
    "population": Killed(
        lambda: {"it.yaml": POPULATION},
        f"population it.yaml --name it --logdir runs {CHECKPOINTS}",
    ),
    "league": Killed(
        lambda: {"it.yaml": LEAGUE},
        f"population it.yaml --name it --logdir runs {CHECKPOINTS}",
    ),
    "parts": single(ring, "--parts 3"),
    "study": Killed(lambda: {"toy.yaml": STUDY}, "study toy.yaml --budget small --jobs 1 --logdir runs/toy"),
}

SHORT = ["small"]
"""That of an ordinary run of the tests."""


def folder_of(command: Killed, folder: Path) -> Path:
    """A working directory with the documents of a command."""
    folder.mkdir()
    for name, text in command.texts().items():
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
    folder = tmp_path_factory.mktemp("imported")
    for number, name in enumerate(("digits-mlp", "cartpole-team")):
        words = f"run {name} --steps 2 --name {number} --json --logdir {folder}"
        assert run_command(words) == 0


class Unbroken(NamedTuple):
    """A command that nobody kills: its name, what it leaves, how long it takes (seconds), its operations on files, its size."""

    name: str
    contents: dict[str, Any]
    seconds: float
    operations: int
    kibibytes: int


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Kill all commands in a soak, some of them in an ordinary run of the tests."""
    if "unbroken" in metafunc.fixturenames:
        rounds = metafunc.config.getoption("rounds", None) or 1
        metafunc.parametrize(
            "unbroken", list(COMMANDS) if rounds > 1 else SHORT, indirect=True, scope="module"
        )


@pytest.fixture(scope="module")
def unbroken(
    request: pytest.FixtureRequest, imported: None, tmp_path_factory: pytest.TempPathFactory
) -> Unbroken:
    command, root = COMMANDS[request.param], tmp_path_factory.mktemp(request.param)
    found = []
    for name in ("first", "second"):  # of which the second finds everything in memory
        folder = folder_of(command, root / name)
        start = time.monotonic()
        code = ended(folder, command.words.split())
        seconds = time.monotonic() - start
        assert code == 0, (folder / "output.txt").read_text()
        found.append(contents(folder / "runs"))
    assert not list(differences(*found))
    assert any(name.endswith("/events") for name in found[0]), "nothing to compare"
    kibibytes = sum(path.stat().st_blocks for path in (folder / "runs").rglob("*")) // 2
    return Unbroken(request.param, found[0], seconds, int((folder / "operations.txt").read_text()), kibibytes)


def go_on(unbroken: Unbroken, folder: Path, chance: random.Random, what: str, *, keep: bool = False) -> None:
    """Let a command go on to its end, and compare what it leaves with the unbroken run's."""
    code = ended(folder, words_of(COMMANDS[unbroken.name], folder, chance))
    assert code == 0, f"{unbroken.name}, {what}: {(folder / 'output.txt').read_text()[-2000:]}"
    found = list(differences(unbroken.contents, contents(folder / "runs")))
    assert not found, "\n".join([f"{unbroken.name}, {what}", *found])
    if not keep:
        shutil.rmtree(folder)


@pytest.mark.long
def test_what_is_killed_at_any_moment_and_resumed_is_the_unbroken_run(
    unbroken: Unbroken, tmp_path: Path, rounds: int
) -> None:
    command, chance = COMMANDS[unbroken.name], random.Random(f"{unbroken.name} {rounds}")
    seconds, kills, chains = unbroken.seconds, 0, 0
    while kills < rounds:
        folder = folder_of(command, tmp_path / f"chain-{chains}")
        moments = []
        for _ in range(min(chance.randint(1, MOST_KILLS), rounds - kills)):
            moments.append(chance.uniform(0, seconds))
            start = time.monotonic()
            if ended(folder, words_of(command, folder, chance), moments[-1]) is not None:
                seconds = min(seconds, time.monotonic() - start)  # the machine is quicker now
                break
            kills += 1
        go_on(unbroken, folder, chance, f"killed after {moments} s")
        chains += 1
    print(f"{unbroken.name}: {kills} kills in {chains} runs of {unbroken.seconds:.2f} s")


@pytest.mark.long
def test_what_is_killed_at_any_operation_on_files_and_resumed_is_the_unbroken_run(
    unbroken: Unbroken, tmp_path: Path, rounds: int
) -> None:
    """The first and the last operations, at which a run begins and ends, are as likely as all between them."""
    command, chance = COMMANDS[unbroken.name], random.Random(f"{unbroken.name} {rounds}")
    last, edge = unbroken.operations, min(20, unbroken.operations // 3)
    for number in range(rounds):
        ranges = (1, edge), (edge + 1, last - edge), (last - edge + 1, last)
        operation = chance.randint(*ranges[chance.randrange(3)])
        folder = folder_of(command, tmp_path / f"run-{number}")
        assert ended(folder, command.words.split(), operation=operation) is None
        go_on(unbroken, folder, chance, f"killed at operation {operation} of {last}")
    print(f"{unbroken.name}: {rounds} kills at operations 1 to {last}")


# --- disks -------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Callable[[str], None]]:
    """A disk of that size at a folder, and what mounts it anew with other options; skipped where this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield remount
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_run_on_a_full_disk_says_so_and_goes_on_once_there_is_space(
    unbroken: Unbroken, tmp_path: Path, rounds: int
) -> None:
    """On disks from one that nothing fits on to one that lacks the last file's bytes."""
    command, points = COMMANDS[unbroken.name], max(2, rounds)
    for point in range(points):
        folder = folder_of(command, tmp_path / f"point-{point}")
        (folder / "runs").mkdir()
        with small_disk(folder / "runs", 8 + (unbroken.kibibytes - 8) * point // points) as remount:
            assert ended(folder, command.words.split()) == 2
            line = (folder / "output.txt").read_text(encoding="utf-8").splitlines()[-1]
            assert line.startswith("error: ")
            assert "cannot be written (No space left on device)" in line
            remount("size=64m")
            go_on(unbroken, folder, random.Random(point), f"disk {point} of {points}", keep=True)
