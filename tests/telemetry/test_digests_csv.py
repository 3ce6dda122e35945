"""digests.csv: rows that say what was before them, continued after a checkpoint, never half-written."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from antiphon.errors import RunError
from antiphon.telemetry import DigestRow, RunDescription
from antiphon.telemetry.csv_files import Digests, DigestsCsv, read_digests
from tests.some import some

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": ("a", "b"), "channels": ()}
)
HEADER = "step,rolling,agent:a,agent:b,channel:a->b\n"


def rows(step: int) -> list[DigestRow]:
    """The digests of a step: b has not learned since step 3."""
    numbers = (step, min(step, 3), step + 100)
    names = (("agent", "a"), ("agent", "b"), ("channel", "a->b"))
    return [(kind, name, n.to_bytes(8, "big")) for (kind, name), n in zip(names, numbers, strict=True)]  # type: ignore[misc]


def record(path: Path, steps: range, *, resumed: bool = False) -> None:
    recorder = DigestsCsv(path, resumed=resumed)
    recorder.begin(DESCRIPTION)
    for step in steps:
        recorder.digests(step, rows(step))
    recorder.end({})
    recorder.close()
    recorder.close()


def table(path: Path) -> Digests:
    found = some(read_digests(path))
    return found


def test_rows_are_readable_before_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "digests.csv"
    recorder = DigestsCsv(path)
    recorder.begin(DESCRIPTION)
    recorder.digests(7, rows(7))
    header, row = path.read_text().splitlines()
    assert header + "\n" == HEADER
    step, rolling, *cells = row.split(",")
    assert (step, len(rolling)) == ("7", 16)
    assert cells == ["0000000000000007", "0000000000000003", "000000000000006b"]
    recorder.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record(tmp_path / "digests.csv", range(1, 6))
    found = table(tmp_path / "digests.csv")
    assert found.columns == (("agent", "a"), ("agent", "b"), ("channel", "a->b"))
    assert list(found.rows) == [1, 2, 3, 4, 5]
    assert found.of(5) == {(kind, name): digest for kind, name, digest in rows(5)}


def test_equal_rolling_digests_mean_that_all_rows_before_are_equal(tmp_path: Path) -> None:
    record(tmp_path / "one.csv", range(1, 6))
    recorder = DigestsCsv(tmp_path / "other.csv")
    recorder.begin(DESCRIPTION)
    for step in range(1, 6):
        recorder.digests(step, rows(99 if step == 2 else step))  # it parts and comes back
    recorder.close()
    one, other = table(tmp_path / "one.csv").rows, table(tmp_path / "other.csv").rows
    assert [one[step].cells == other[step].cells for step in one] == [True, False, True, True, True]
    assert [one[step].rolling == other[step].rolling for step in one] == [True, False, False, False, False]


def test_rolling_digests_tell_steps_and_names_apart(tmp_path: Path) -> None:
    for name, step, called in (("a", 1, "x"), ("b", 2, "x"), ("c", 1, "y")):
        recorder = DigestsCsv(tmp_path / name)
        recorder.begin(DESCRIPTION)
        recorder.digests(step, [("agent", called, bytes(8))])
        recorder.close()
    found = {next(iter(table(tmp_path / name).rows.values())).rolling for name in "abc"}
    assert len(found) == 3


def test_names_with_commas_quotes_newlines_and_colons_come_back(tmp_path: Path) -> None:
    name = 'a:,"b"\nc'
    for resumed in (False, True):
        recorder = DigestsCsv(tmp_path / "digests.csv", resumed=resumed)
        recorder.begin(DESCRIPTION)
        if not resumed:
            recorder.digests(1, [("agent", name, bytes(8))])
        recorder.close()
    assert table(tmp_path / "digests.csv").of(1) == {("agent", name): bytes(8)}


def test_a_table_of_other_agents_is_not_gone_on_with(tmp_path: Path) -> None:
    record(tmp_path / "digests.csv", range(1, 3))
    recorder = DigestsCsv(tmp_path / "digests.csv", resumed=True)
    recorder.begin(DESCRIPTION)
    with pytest.raises(RunError, match=r"digests.csv: has digests of other agents and channels"):
        recorder.digests(3, rows(3)[:2])
    recorder.close()
    assert list(table(tmp_path / "digests.csv").rows) == [1, 2]


def test_a_run_without_a_table_has_none(tmp_path: Path) -> None:
    assert read_digests(tmp_path / "digests.csv") is None


def test_a_simulation_that_begins_again_writes_over_what_it_had(tmp_path: Path) -> None:
    from antiphon.engine.simulation import Simulation

    for name, resets in (("again", True), ("once", False)):
        with Simulation("digits-mlp", seed=3, logdir=tmp_path / name) as simulation:
            if resets:
                simulation.run(steps=6)
                simulation.reset()
            simulation.run(steps=4)
    tables = [read_digests(tmp_path / name / "digests.csv") for name in ("again", "once")]
    assert tables[0] == tables[1]
    assert tables[0] is not None
    assert list(tables[0].rows) == [1, 4]
