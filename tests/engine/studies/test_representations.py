"""Representations in a study: measured per run, kept, written in long form, drawn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from antiphon.engine.studies.representations import draw_representations, kept_representations
from antiphon.engine.studies.study import Ended, Study
from antiphon.errors import RunError
from antiphon.scenarios.study import StudySpec

TEXT = """
study: toy
rows: [digits-mlp]
variants: [locked, local]
set: {width: 8, batch: 16, depth: 2}
representations: true
budgets: {small: {steps: 6, seeds: 1}}
"""


def test_what_agents_make_of_examples_is_measured_once_written_and_drawn(tmp_path: Path) -> None:
    study = Study(spec=StudySpec.from_yaml(TEXT), directory=tmp_path)
    result = study.go(1, lambda run: None).result
    found = json.loads((tmp_path / "locked-s0/representations.json").read_text())
    with (tmp_path / "representations.csv").open() as file:
        rows = list(csv.DictReader(file))
    probes = [row for row in rows if row["run"] == "locked-s0" and row["quantity"] == "probe_test"]
    assert [row["agent"] for row in probes] == found["agents"]
    assert [float(row["value"]) for row in probes] == found["probe_test"]
    assert {row["variant"] for row in rows} == {"locked", "local"}
    pairs = [row for row in rows if row["quantity"] == "similarity" and row["agent"] == row["other"]]
    assert {float(row["value"]) for row in pairs} == {1.0}
    titles = [axes.get_title() for axes in draw_representations(result, tmp_path).axes]
    assert titles[:3] == ["linear probe, training %", "linear probe, test %", "norm of weights"]
    assert {"similarity: locked", "similarity: local"} < set(titles)
    assert (tmp_path / "representations.svg").stat().st_size > 0
    (tmp_path / "local-s0/representations.json").unlink()
    told: list[Ended] = []
    study.go(1, told.append)
    assert [(run.label, run.kept) for run in told] == [("locked", True), ("local", False)]
    assert kept_representations(tmp_path / "local-s0", 6) is not None
    assert kept_representations(tmp_path / "local-s0", 7) is None
    found["probe_test"].pop()
    (tmp_path / "local-s0/representations.json").write_text(json.dumps(found))
    with pytest.raises(
        RunError, match=r"representations.json: is not what was written \(checksum\); delete it"
    ):
        study.go(1, told.append)
