"""Tables that grow line by line: a resumed one goes on at the end, a last line that a crash tore is no row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import RunError
from antiphon.files import read_rows
from antiphon.telemetry.csv_files import read_figures
from tests.parts_table import read_parts
from tests.telemetry import test_metrics_csv as metrics
from tests.telemetry.parts import test_parts_csv as parts


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("a,b", []),
        ("a,b\n", []),
        ("a,b\n1,2", []),
        ('a,b\n"x\ny",2\n', [["x\ny", "2"]]),
    ],
)
def test_what_has_no_end_is_no_row(tmp_path: Path, text: str, rows: list[list[str]]) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    assert list(read_rows(tmp_path / "table.csv", ("a", "b"))) == rows


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"table.csv: is not there; "):
        list(read_rows(tmp_path / "table.csv"))


def steps_of_figures(path: Path) -> Iterable[int]:
    return dict.fromkeys(step for step, _ in read_figures(path))


each_table = pytest.mark.parametrize(
    ("record", "read"),
    [(metrics.record, steps_of_figures), (parts.record, read_parts)],
    ids=["metrics", "parts"],
)
Record = Callable[..., None]
Read = Callable[[Path], Iterable[int]]


@each_table
def test_resumed_table_equals_an_unbroken_one(tmp_path: Path, record: Record, read: Read) -> None:
    record(tmp_path / "whole.csv", range(1, 9))
    record(tmp_path / "broken.csv", range(1, 5))
    record(tmp_path / "broken.csv", range(5, 9), resumed=True)
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    record(tmp_path / "new.csv", range(1, 9), resumed=True)
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list(read(tmp_path / "whole.csv")) == list(range(1, 9))


@each_table
def test_a_last_line_torn_by_a_crash_is_left_out(tmp_path: Path, record: Record, read: Read) -> None:
    path = tmp_path / "table.csv"
    record(path, range(1, 3))
    whole = path.read_bytes()
    header, first, *_ = whole.splitlines(keepends=True)
    for end in (0, 3, len(header) - 1, len(header), len(header) + 4, len(header) + len(first) - 1):
        path.write_bytes(whole[:end])
        assert list(read(path)) == [], end
    path.write_bytes(whole + whole.splitlines()[-1][:-2])
    assert list(read(path)) == [1, 2]


@each_table
def test_a_new_run_never_overwrites_a_table(tmp_path: Path, record: Record, read: Read) -> None:
    record(tmp_path / "table.csv", range(1, 3))
    before = (tmp_path / "table.csv").read_bytes()
    with pytest.raises(RunError, match=r"table.csv: exists already; resume"):
        record(tmp_path / "table.csv", range(1, 3))
    assert (tmp_path / "table.csv").read_bytes() == before


@each_table
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, record: Record, read: Read) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"table.csv: cannot be written \("):
        record(tmp_path / "file" / "table.csv", range(1, 2))


@each_table
@pytest.mark.parametrize("damage", [b"rubbish\n", b"x,agent,a,loss,1\n", b"1,2,3\n", b"\xff\n", b"\x00\n"])
def test_a_row_of_another_kind_is_one_line(tmp_path: Path, record: Record, read: Read, damage: bytes) -> None:
    path = tmp_path / "table.csv"
    record(path, range(1, 3))
    header, *rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, damage, *rows]))
    with pytest.raises(RunError, match=r"table\.csv: does not fit \(.*\); restore it from a copy") as found:
        list(read(path))
    assert str(found.value).isprintable()


@pytest.mark.parametrize("read", [steps_of_figures, read_parts])
def test_another_table_is_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match=r"table\.csv: does not fit \(its first line should be 'step,"):
        list(read(tmp_path / "table.csv"))
