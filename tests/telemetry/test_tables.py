"""Tables that grow line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.telemetry.csv_files import whole_lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a,b", []),
        ("a,b\n", [(1, ["a", "b"])]),
        ("a,b\n1,2", [(1, ["a", "b"])]),
        ('a,b\n"x\ny",2\n', [(1, ["a", "b"]), (3, ["x\ny", "2"])]),
        ('a,b\n"x\n', [(1, ["a", "b"]), (2, ["x\n"])]),
    ],
)
def test_what_has_no_end_is_no_line(tmp_path: Path, text: str, lines: list[tuple[int, list[str]]]) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    assert list(whole_lines(tmp_path / "table.csv")) == lines


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(whole_lines(tmp_path / "table.csv"))
