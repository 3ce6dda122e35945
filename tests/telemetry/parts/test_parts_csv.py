"""parts.csv, and where a table ends that is being written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from antiphon.telemetry.parts.parts_csv import PARTS_HEADER, PartsCsv
from tests.kit.parts_table import read_parts
from tests.telemetry.test_tables import DESCRIPTION, FIRST, SECOND


def test_parts_are_readable_before_the_file_is_closed_and_the_last_row_of_a_step_counts(
    tmp_path: Path,
) -> None:
    path = tmp_path / "parts.csv"
    recorder = PartsCsv(path)
    recorder.begin(DESCRIPTION)
    recorder.parts(7, [FIRST])
    header, row = path.read_text().splitlines()
    assert header == ",".join(PARTS_HEADER)
    assert row == "7,0,node-1,3,2.5,0.3333333333333333,1=0.125 2=0.5,4096,2048,3,1.5,"
    late = replace(SECOND, staleness=30.0)
    recorder.parts(7, [SECOND])
    recorder.parts(7, [late])
    recorder.close()
    assert read_parts(path) == {7: [FIRST, late]}
