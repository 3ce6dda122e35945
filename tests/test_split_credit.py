"""The study of the kinds of credit of a split model: a run, the choice of rates, and that nothing is done twice."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import split_credit as study

SMALL: dict[str, dict[str, Any]] = {
    "gpt": {"text": "embedded", "length": 32, "width": 8, "heads": 2, "blocks": 2, "batch": 4},
    "resnet": {"data": "digits", "channels": 2, "stages": [1, 1], "batch": 4},
}


def test_the_ways_are_the_variants_and_some_pipelined() -> None:
    for task, template in study.TASKS.items():
        found = study.ways(task)
        assert set(template.variants) - {"decoupled"} == {name for name in found if ", " not in name}
        assert {values["delay"] for name, values in found.items() if name.endswith(", pipelined")} == {1}


@pytest.mark.parametrize(("task", "way"), [("gpt", "lens, pipelined"), ("resnet", "locked")])
def test_a_run(task: str, way: str) -> None:
    found = study.trained(task, way, 0.006, 1, 8, SMALL[task], aligned=task == "gpt")
    assert [point["step"] for point in found["curve"]] == [2, 4, 6, 8]
    assert found["validation"] == found["curve"][-1]["score"] > 0
    assert found["kept_mb"] > 0
    if task == "gpt":
        assert list(found["curve"][0]["alignment"]) == ["part0->part1"]


def arguments(folder: Path, **more: Any) -> argparse.Namespace:
    given = {"task": "resnet", "rates": [0.003, 0.006], "seeds": 2, "steps": 4, "data": "digits", "jobs": 1}
    return argparse.Namespace(**{**given, "folder": folder, **more})


def test_rates_are_chosen_once_and_finished_runs_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, float, int]] = []
    errors = {"locked": 4.0, "detached": 14.0, "local": 6.0, "local, pipelined": 7.0}

    def one(self: Any, way: str, rate: float, seed: int) -> None:
        path = self.path(way, rate, seed)
        if path.exists():
            return
        done.append((way, rate, seed))
        score = None if way == "conv" else errors[way] + seed + (rate == 0.003)
        row = {"way": way, "rate": rate, "seed": seed, "validation": score, "test": score}
        row |= {"ms_per_step": 1.0, "kept_mb": 2.0, "curve": [{"step": 4, "score": score}]}
        path.write_text(json.dumps(row))

    monkeypatch.setattr(study.Study, "_one", one)
    runs = study.Study(arguments(tmp_path))
    names = [*errors, "conv"]
    runs.train(names)
    assert [run for run in done if run[0] == "locked"] == [
        ("locked", 0.003, 0),
        ("locked", 0.006, 0),
        ("locked", 0.006, 1),
    ]
    assert [run for run in done if run[0] == "local, pipelined"] == [
        ("local, pipelined", 0.006, 0),
        ("local, pipelined", 0.006, 1),
    ]
    rows = {row["way"]: row for row in runs.rows(names)}
    assert (rows["locked"]["validation"], rows["locked"]["spread"], rows["locked"]["seeds"]) == (4.5, 0.5, 2)
    assert rows["local"]["recovered"] == 0.8
    assert rows["conv"] == {"way": "conv", "diverged": True}
    count = len(done)
    study.Study(arguments(tmp_path)).train(names)
    assert len(done) == count
