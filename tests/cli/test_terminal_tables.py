"""Tables in the terminal, at any width: no cell is lost, and each row is told apart from the others."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from antiphon.terminal.output import show_table

HEADS = ["channel", "coupling", "accuracy %", "95 % interval", "recovered [95 %]", "n"]
NUMBERS = ("97.01 ± 0.10", "96.0 – 98.1", "1.00 [0.98 – 1.02]")
ROWS = [
    [f"a_rather_long_name_{i}->another_name", "decoupled (dfa), given label", *NUMBERS, f"{i}"]
    for i in range(3)
]


def lines(width: int, **settings: int) -> list[str]:
    """Return the lines of the table at a width."""
    out = Console(file=io.StringIO(), width=width, highlight=False)
    show_table(HEADS, ROWS, right=4, out=out, **settings)
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [36, 40, 60, 80, 120, 200])
def test_no_cell_is_cut_and_every_row_has_its_name(width: int) -> None:
    found = lines(width)
    assert max(map(len, found)) <= width
    assert "…" not in "".join(found)
    blocks = "\n".join(found).rstrip().split("\n\n")
    for block in blocks:
        heads, _, *body = [line.split("   ") for line in block.splitlines()]
        assert heads[0].strip() == "channel"
        names = "".join(row[0].strip() for row in body)
        assert all(row[0] in names for row in ROWS)
    whole = " ".join(" ".join(found).split())
    for row in ROWS:
        for cell in row[2:]:
            assert cell in whole
    assert whole.count("decoupled") == 3


def test_a_wide_table_is_one_and_columns_of_names_are_repeated_together() -> None:
    assert len("\n".join(lines(200)).rstrip().split("\n\n")) == 1
    blocks = "\n".join(lines(60, names=2)).rstrip().split("\n\n")
    assert len(blocks) > 1
    assert all(block.split()[:2] == ["channel", "coupling"] for block in blocks)
