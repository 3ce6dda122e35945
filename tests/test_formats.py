"""Formats of files: what is newer, older or no version at all is refused in one line; what is older is migrated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from antiphon import Scenario, Simulation, formats
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.state import checkpoint
from antiphon.errors import RunError
from antiphon.formats import FORMATS, OWN, check_format, migrated
from antiphon.telemetry.channels.reading import graph_from
from tests.commands import Commands
from tests.engine.numbers import one_line

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = Scenario.model_validate(
    {
        "scenario": "one",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": {
            "eye": {"observes": ["image"], "objective": {"kind": "classification", "target": "label"}}
        },
        "training": {"batch": 2, "steps": 2},
    }
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Simulation(SCENARIO, logdir=tmp_path / "run") as simulation:
        simulation.run()
    return tmp_path / "run"


def changed(run: Path, **facts: Any) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | facts))


def test_a_run_says_the_versions_of_all_its_files(run: Path) -> None:
    facts = RunDirectory.open(run).facts
    assert facts["format"] == facts["formats"]["run"] == FORMATS["run"].version
    beside = {kind: form.version for kind, form in FORMATS.items() if kind not in ("seeds", "weights")}
    assert facts["formats"] == beside
    manifest = json.loads((RunDirectory.open(run).checkpoints[-1] / "state.json").read_text())
    assert (manifest["format"], manifest["antiphon"]) == (FORMATS["checkpoint"].version, OWN)


def test_of_a_newer_version_the_line_says_what_wrote_it_and_what_this_one_reads(run: Path) -> None:
    line = f"run.json: run directory, format 7, written by antiphon 4.5.6, is newer than antiphon {OWN}, which reads 1; "
    changed(run, format=7, versions={"antiphon": "4.5.6"}, seconds="of another kind")
    with one_line(line + "use antiphon 4.5.6 or newer", RunError):
        RunDirectory.open(run)
    changed(run, versions=None)
    with one_line(f"format 7 is newer than antiphon {OWN}, which reads 1; use a newer antiphon", RunError):
        RunDirectory.open(run)


def test_a_newer_table_in_a_run_is_refused_though_run_json_can_be_read(run: Path) -> None:
    changed(run, formats={"metrics": 2, "of the future": 1}, versions={"antiphon": "0.9"})
    with one_line(r"table of figures, format 2, written by antiphon 0\.9, is newer", RunError):
        RunDirectory.open(run)
    changed(run, formats={"metrics": 1, "of the future": 1})
    RunDirectory.open(run)
    changed(run, formats=[])
    with one_line(r"run\.json: is damaged", RunError):
        RunDirectory.open(run)


@pytest.mark.parametrize("checksum", [True, False])
def test_a_newer_checkpoint_is_no_damage(run: Path, checksum: bool) -> None:
    """Its own checksum may be another one, and its entries too."""
    place = RunDirectory.open(run).checkpoints[-1]
    text = (place / "state.json").read_text()
    newer = text.replace(f'{{"format": 1, "antiphon": "{OWN}"', '{"format": 2, "antiphon": "0.9", "new": 1')
    assert newer != text
    if not checksum:
        content = json.loads(newer)
        del content["manifest_sha256"]
        newer = json.dumps(content)
    (place / "state.json").write_text(newer)
    with one_line(
        r"checkpoint, format 2, written by antiphon 0\.9, is newer than .*; use antiphon 0\.9", RunError
    ):
        checkpoint.read(place)


def test_a_newer_document_of_the_channels_tab_is_refused() -> None:
    with one_line("Channels tab's data, format 9 is newer than", RunError):
        graph_from("run", b'{"format": 9}')


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, [1], 10**30])
def test_what_is_no_version_is_damage(version: Any) -> None:
    with pytest.raises(RunError) as caught:
        check_format("run", version, "place")
    assert str(caught.value).startswith("place: ")
    assert len(str(caught.value)) < 200


def test_only_plain_versions_of_writers_are_named() -> None:
    for writer in ("0.1\x1b[31m", "x" * 30, 3, ["0.1"], ""):
        with pytest.raises(RunError) as caught:
            check_format("run", 2, "place", writer)
        assert "written by" not in str(caught.value)


def test_exported_weights_and_the_summary_over_seeds_say_their_versions(
    run: Path, tmp_path: Path, cli: Commands
) -> None:
    with Simulation.load(run) as simulation:
        path = simulation.export(tmp_path / "weights.safetensors")
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "antiphon": OWN, "antiphon_format": "1"}
    (tmp_path / "x-seeds").mkdir()
    (tmp_path / "x-seeds" / "seeds.json").write_text('{"format": 2, "seeds": [{"run_dir": "run"}]}')
    assert "summary over seeds, format 2 is newer" in cli.refused("report", tmp_path / "x-seeds")


# --- migrations ----------------------------------------------------------------------------------------------


def to_second(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "second": data["first"] + 1}


def to_third(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "third": data["second"] + 1}


def later(monkeypatch: pytest.MonkeyPatch, kind: str, **migrations: Callable[..., Any]) -> None:
    """Have the present versions be those of an antiphon that writes the third."""
    steps = {int(name[1:]): migration for name, migration in migrations.items()}
    history = ("0.1.0", "0.2.0", "0.3.0")
    monkeypatch.setitem(formats.FORMATS, kind, replace(FORMATS[kind], history=history, migrations=steps))  # type: ignore[arg-type]


def test_older_data_are_brought_to_the_present_version_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, "run", _1=to_second, _2=to_third)
    assert (FORMATS["run"].version, FORMATS["run"].oldest, FORMATS["run"].read) == (3, 1, "1 to 3")
    assert migrated("run", {"first": 1}, 1) == {"first": 1, "second": 2, "third": 3}
    assert migrated("run", {"second": 5}, 2) == {"second": 5, "third": 6}
    assert migrated("run", {"first": 1}, 3) == {"first": 1}


def test_a_version_without_a_migration_is_refused_with_the_antiphon_that_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later(monkeypatch, "run", _2=to_third)
    assert (FORMATS["run"].oldest, FORMATS["run"].read) == (2, "2 to 3")
    with one_line(
        "format 1 is older than .*, which reads 2 to 3; use an antiphon from 0.1.0 to 0.2.0", RunError
    ):
        check_format("run", 1, "place")


def test_an_older_run_and_its_checkpoint_are_opened_and_resumed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "notes": ["older"]}

    def state(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "elapsed": found["elapsed"] + 100}

    def same(found: dict[str, Any]) -> dict[str, Any]:
        return found

    later(monkeypatch, "run", _1=facts, _2=same)
    later(monkeypatch, "checkpoint", _1=state, _2=same)
    directory = RunDirectory.open(run)
    assert directory.facts["notes"] == ["older"]
    with Simulation.load(run) as simulation:
        assert simulation.world.elapsed == 100


def test_the_table_of_formats_is_that_of_the_documentation(cli: Commands) -> None:
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    for form in FORMATS.values():
        assert f"| {form.what} | `{form.files}` | {form.version} | {form.read} |" in text
    printed = cli("--formats")
    assert all(form.what in printed for form in FORMATS.values())
    assert printed.startswith(f"antiphon {OWN}")
