"""Runs, and which of them belong together."""

from __future__ import annotations

from dataclasses import replace

from antiphon.telemetry.report.run import Table, grouped
from tests.telemetry.report.made import curve, data, run


def names(*runs: object) -> dict[str, list[str]]:
    return {group.name: [one.name for one in group.runs] for group in grouped(runs)}  # type: ignore[arg-type]


def test_runs_that_differ_in_their_seed_alone_are_one_group() -> None:
    wide = run("c", 0, facts={"values": {"width": 16}})
    assert names(run("a", 0), wide, run("b", 1)) == {"width=8": ["a", "b"], "width=16": ["c"]}


def test_a_second_run_of_a_seed_does_not_count_as_another_seed() -> None:
    found = names(run("a", 0), run("b", 1), run("again", 0))
    assert found == {"s (1)": ["a", "b"], "again": ["again"]}
    other = run("c", 0, facts={"variant": "w", "values": {"width": 9}})
    assert list(names(run("a", 0), run("again", 0), other)) == ["a", "again", "w"]


def test_variants_are_told_by_their_names_alone_where_that_is_enough() -> None:
    detached = run("b", facts={"variant": "detached", "values": {"width": 8, "coupling": "detached"}})
    assert names(run("a"), detached) == {"default": ["a"], "detached": ["b"]}
    wide = run("c", facts={"variant": "detached", "values": {"width": 9, "coupling": "detached"}})
    assert list(names(run("a"), detached, wide)) == [
        "default · width=8",
        "detached · width=8 · coupling=detached",
        "detached · width=9 · coupling=detached",
    ]


def test_a_value_that_repeats_the_seed_tells_no_group_from_another() -> None:
    runs = [run(str(seed), seed, facts={"values": {"data_seed": seed}}) for seed in range(2)]
    assert list(names(*runs).values()) == [["0", "1"]]


def test_runs_made_in_python_are_told_by_their_scenarios() -> None:
    first, second = (run(name, facts={"values": {}}, text=name) for name in "ab")
    assert names(first, second) == {"a": ["a"], "b": ["b"]}


def test_scenarios_are_told_by_their_names() -> None:
    assert names(run("a"), run("b", facts={"scenario": "t"})) == {"s": ["a"], "t": ["b"]}


def test_readouts_are_those_of_the_result_else_of_the_graph_else_of_the_table() -> None:
    whole = run()
    assert whole.readouts == ("b",)
    assert run(result={"readout": ["a", "b"]}).readouts == ("a", "b")
    without = run(result={})
    assert without.readouts == ("b",)
    assert data().graph["agents"][1]["role"] == "readout"
    table = Table(agents={("x", "accuracy"): curve(1.0), ("y", "loss"): curve(1.0)})
    assert replace(without, data=None, table=table).readouts == ("x",)


def test_scores_are_numbers_of_the_result_alone() -> None:
    result = {"accuracy": 0.5, "error": None, "loss": "much", "bits": True, "env": {"solved": 3, "word": "x"}}
    assert run(result=result).scores == {"accuracy": 0.5, "solved": 3.0}
    assert run(result={"env": [1]}).scores == {}
