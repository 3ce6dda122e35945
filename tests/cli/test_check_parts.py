"""`antiphon check --parts`: what is cut and what it costs, or what cannot be cut and the fix; for the whole library."""

from __future__ import annotations

import pytest

from tests.kit.commands import Commands


@pytest.mark.long
def test_the_table_and_json(cli: Commands) -> None:
    lines = cli("check ring-of-many --set agents=8 --parts 2").splitlines()
    assert lines[0] == "ring-of-many.yaml: ok"
    assert [line.split() for line in lines if line[:1].isdigit() and "%" in line] == [
        ["0", "n0,", "n1,", "…", "(4)", "50.00", "%"],
        ["1", "n4,", "n5,", "…", "(4)", "50.00", "%"],
    ]
    assert "4 of 16 channels are cut: 16,384 bytes a step" in lines
    assert "lookahead 4 steps (n0->n7, n3->n4, … (4)): an exchange may take as long as 4 steps" in lines
    assert "at most 2.00 times as fast as one part, without the time of exchanges" in lines
    parts = cli.json("check ring-of-many --set agents=6 --set readouts=2 --parts 3")["parts"]
    assert parts["placement"] == {"n0": 0, "n1": 0, "n2": 1, "n3": 1, "n4": 2, "n5": 2}
    assert set(parts["division"]["cut"]) == {"n1->n2", "n2->n1", "n3->n4", "n4->n3", "n5->n0", "n0->n5"}
