"""The command line of runs in parts: `run --parts`, `resume` on any number of parts, kills and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import Commands
from tests.engine.parts.rings import document
from tests.parts_table import read_parts
from tests.recorded import metrics


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("ring.yaml")
    return tmp_path


@pytest.fixture
def cli(here: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


def write(name: str, steps: int = 24, **keys: Any) -> None:
    Path(name).write_text(yaml.safe_dump(document(steps, **keys), sort_keys=False), encoding="utf-8")


def facts(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "run.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("parts", [2, 3])
def test_diff_finds_nothing_between_one_part_and_several(parts: int, cli: Commands) -> None:
    write("lossy.yaml", drop=0.2, noise=0.1)
    cli("run lossy.yaml --name one")
    cli(f"run lossy.yaml --name several --parts {parts}")
    found = cli.json("diff runs/one runs/several")
    assert found["same"] is True
    assert [setting["path"] for setting in found["settings"]] == [["run", "parts"]]
    assert metrics("runs/one") == metrics("runs/several")
    for name in ("state.safetensors", "state.json"):
        one, several = (
            Path("runs", run, "checkpoints/step-000000024", name).read_bytes() for run in ("one", "several")
        )
        assert one == several
    assert "parts" not in facts("runs/one")
    division = facts("runs/several")["parts"]
    assert (division["count"], division["mode"]) == (parts, "lockstep")
    assert "ray" not in division
    assert facts("runs/several")["backend"] == "cohort"


def test_agents_are_placed_by_name_pattern_or_file(cli: Commands) -> None:
    Path("place.yaml").write_text("'*': 1\na: 0\n", encoding="utf-8")
    for name, place in (("names", "--parts *=1 --parts a=0"), ("file", "--parts place.yaml --every 2")):
        cli(f"run ring.yaml --steps 10 --name {name} {place}")
        assert facts(f"runs/{name}")["parts"]["placement"] == {"a": 0, "b": 1, "c": 1, "d": 1}
    assert [facts(f"runs/{name}")["parts"]["every"] for name in ("names", "file")] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--parts a=0", "--parts: agent 'b' and 2 more has no part; begin with --parts '*=0' for all others"),
        ("--parts x=0", "--parts x=0: there is no agent 'x'; known: a, b, c, d"),
        (
            "--parts a=one",
            "--parts a=one: the part of 'a' is 'one'; parts are numbered from 0, for example --parts a=0",
        ),
        (
            "--parts nothing.yaml",
            "--parts nothing.yaml: neither a number, AGENT=PART nor a YAML file that can be read",
        ),
        ("--parts ring.yaml", "--parts ring.yaml: the part of 'scenario' is 'ring'"),
        ("--parts *=0 --parts a=2", "place: no agent is in part 1, and one is in part 2"),
        ("--parts 3 --parts *=0", "--parts 3: a number of parts stands alone; leave the others out"),
        ("--parts 9", "parts: 9; the number of agents is 4; use at most 4"),
        ("--parts 2 --every 3", "parts: every is 3, and parts of this placement may be 2 steps apart"),
        ("--parts 2 --mode slow", "parts: there is no mode 'slow'"),
        ("--parts 2 --ray=here", "--ray: 'here' is not HOST:PORT; `ray start --head` prints it"),
        ("--parts 2 --backend reference", "parts: the reference backend computes one agent at a time"),
        ("--parts 2 --seeds 3", "--seeds: several seeds are not divided into parts; run each with --seed S"),
        ("--parts 0", "--parts: must be at least 1, not 0"),
        ("--mode free", "--mode: into how many parts? add --parts N"),
        ("--every 2 --ray", "--ray: into how many parts? add --parts N"),
        ("--ray 10.0.0.1:6379", "--ray: into how many parts? add --parts N"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_directory(
    options: str, message: str, cli: Commands
) -> None:
    assert cli.refused("run ring.yaml --name a", options).startswith(message)
    assert not Path("runs").exists()


def test_a_scenario_after_ray_is_no_address(cli: Commands) -> None:
    assert cli.refused("run --ray ring.yaml --name a").startswith("--ray: into how many parts?")


def test_a_channel_that_cannot_be_cut_is_named_with_the_fix(cli: Commands) -> None:
    now = document()
    now["channels"][0]["link"] = {"delay": 0}
    Path("now.yaml").write_text(yaml.safe_dump(now, sort_keys=False), encoding="utf-8")
    line = cli.refused("run now.yaml --parts *=0 --parts b=1 --parts c=1")
    assert line.startswith("channels[a->b].link.delay: 0: a message is read at the step at which it is sent")
    assert "give the channel `link: {delay: 1}`, or place both ends together" in line
    cli("run now.yaml --parts *=0 --parts c=1 --name a")


def test_parts_that_do_not_wait_have_no_episodes(cli: Commands) -> None:
    line = (
        "env: its episodes end, and parts that do not wait are at different steps of them; use a stream of examples, "
        "or parts in lockstep"
    )
    assert cli.refused("run lossy --parts 2 --mode free --name a") == line


def test_parts_that_do_not_wait_learn_write_rows_and_are_evaluated(cli: Commands) -> None:
    write("steady.yaml", steps=200, delay=1, every=50)
    stream = Path("steady.yaml").read_text(encoding="utf-8").replace("episode: example", "episode: stream")
    Path("steady.yaml").write_text(stream, encoding="utf-8")
    result = cli.json("run steady.yaml --name a --parts 2 --mode free --checkpoint-every 60")
    assert facts("runs/a")["parts"]["mode"] == "free"
    rows = [row.split(",") for row in metrics("runs/a") if ",agent,a,loss," in row]
    assert [row[0] for row in rows] == ["1", "50", "100", "150", "200"]
    losses = [float(row[4]) for row in rows]
    assert losses[-1] < losses[0]  # means over the steps of a row, as without parts
    assert list(read_parts(Path("runs/a/parts.csv"))) == [1, 50, 100, 150, 200]
    assert cli.json("evaluate runs/a")["accuracy"] == result["accuracy"]
    assert "its parts did not wait" in cli.refused("resume runs/a --steps 300")


def test_check_takes_the_placement_of_a_run(cli: Commands) -> None:
    found = cli.json("check ring.yaml --parts *=0 --parts c=1")
    assert found["parts"]["placement"] == {"a": 0, "b": 0, "c": 1, "d": 0}
    assert cli.code("check ring.yaml --parts *=0 --parts c=2") == 2
    assert "no agent is in part 1" in cli.out + cli.err


@pytest.mark.parametrize("parts", ["", "--parts 3", "--parts 1", "--parts *=1 --parts c=0"])
def test_resume_goes_on_in_any_parts(parts: str, cli: Commands) -> None:
    for run, first, then in (("one", "", ""), ("two", "--parts 2", parts)):
        cli(f"run ring.yaml --name {run} --steps 13 {first}")
        cli(f"resume runs/{run} --steps 24 {then}")
    assert cli.json("diff runs/one runs/two")["same"] is True
    assert metrics("runs/one") == metrics("runs/two")
    counts = {"": 2, "--parts 3": 3, "--parts 1": None, "--parts *=1 --parts c=0": 2}
    division = facts("runs/two")["parts"]
    assert (division and division["count"]) == counts[parts]


def test_a_run_that_was_whole_is_resumed_in_parts_and_the_other_way_round(cli: Commands) -> None:
    cli("run ring.yaml --name a --steps 24")
    cli("run ring.yaml --name b --steps 10")
    cli("resume runs/b --steps 16 --parts 2")
    cli("resume runs/b --steps 24 --parts 1")
    a, b = (Path(f"runs/{run}/checkpoints/step-000000024/state.safetensors").read_bytes() for run in "ab")
    assert a == b


def test_resume_if_exists_does_not_count_parts_as_another_run(cli: Commands) -> None:
    cli("run ring.yaml --name a --parts 2")
    cli("run ring.yaml --name a --resume-if-exists")
    cli("run ring.yaml --name a --parts 3 --resume-if-exists")


# --- processes that end --------------------------------------------------------------------------------------


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "antiphon", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(run: str) -> None:
    end = time.monotonic() + 600
    while not list(Path(run).glob("checkpoints/step-*/state.json")):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_run_is_resumed_to_the_same_bits(cli: Commands) -> None:
    write("long.yaml", steps=100_000)
    child = start("run", "long.yaml", "--parts", "2", "--name", "a", "--checkpoint-every", "10")
    try:
        wait_for_checkpoint("runs/a")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    (step,) = {json.loads(Path("runs/a/run.json").read_text())["step"]}
    cli(f"resume runs/a --steps {step + 40} --parts 3 --checkpoint-every 1000")
    cli(f"run long.yaml --name b --steps {step + 40} --checkpoint-every 1000")
    name = f"checkpoints/step-{step + 40:09d}/state.safetensors"
    assert Path("runs/a", name).read_bytes() == Path("runs/b", name).read_bytes()


@pytest.mark.nightly
def test_sigterm_ends_it_with_a_checkpoint_and_a_result(cli: Commands) -> None:
    write("long.yaml", steps=100_000, every=1000)
    child = start("run", "long.yaml", "--parts", "2", "--name", "a", "--checkpoint-every", "50", "--json")
    try:
        wait_for_checkpoint("runs/a")
        child.terminate()
        out, err = child.communicate(timeout=600)
    finally:
        child.kill()
    assert child.returncode == 128 + signal.SIGTERM, err
    result = json.loads(out.splitlines()[-1])
    assert result["exit"] == facts("runs/a")["exit"] == "stopped"
    assert Path(f"runs/a/checkpoints/step-{result['steps']:09d}").is_dir()
    cli(f"resume runs/a --steps {result['steps'] + 5}")
