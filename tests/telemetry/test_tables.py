"""Tables that grow line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.errors import RunError
from antiphon.files import read_rows
from tests.telemetry.test_metrics_csv import record


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a,b", []),
        ("a,b\n", [(1, ["a", "b"])]),
        ("a,b\n1,2", [(1, ["a", "b"])]),
        ('a,b\n"x\ny",2\n', [(1, ["a", "b"]), (3, ["x\ny", "2"])]),
        ('a,b\n"x\n', [(1, ["a", "b"]), (2, ["x\n"])]),
        ('a,b\n"x\ny', [(1, ["a", "b"])]),
    ],
)
def test_what_has_no_end_is_no_line(tmp_path: Path, text: str, lines: list[tuple[int, list[str]]]) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    assert list(read_rows(tmp_path / "table.csv")) == lines


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"table.csv: is not there; "):
        list(read_rows(tmp_path / "table.csv"))


def test_resumed_table_equals_an_unbroken_one(tmp_path: Path) -> None:
    record(tmp_path / "whole.csv", range(1, 9))
    record(tmp_path / "broken.csv", range(1, 7))
    record(tmp_path / "broken.csv", range(5, 9), resume_step=4)
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["broken.csv", "whole.csv"]


def test_a_new_run_never_overwrites_a_table(tmp_path: Path) -> None:
    record(tmp_path / "table.csv", range(1, 3))
    before = (tmp_path / "table.csv").read_bytes()
    with pytest.raises(RunError, match=r"table.csv: exists already; resume"):
        record(tmp_path / "table.csv", range(1, 3))
    assert (tmp_path / "table.csv").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"table.csv: cannot be written \("):
        record(tmp_path / "file" / "table.csv", range(1, 2))
