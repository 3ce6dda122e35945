"""The command line: `plan`."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.commands.plan import in_time
from tests.commands import Commands

TINY = "plan digits-mlp --set depth=2 --set width=16 --set batch=16"
FAR = f"{TINY} --seeds 1 --steps 60 --target 20 --cluster datacentre-100"


def test_without_a_cluster_it_prints_what_show_prints_of_cost_and_memory(here: Path, cli: Commands) -> None:
    words = "digits-mlp --variant locked --set width=16"
    plan, shown = cli("plan", words), cli("show", words)
    assert "memory    " in plan
    assert "a step in matrix products" in plan
    assert shown.endswith(plan)
    assert cli.json("plan", words) == cli.json("show", words)["plan"]
    assert list(here.iterdir()) == []


@pytest.mark.long
def test_on_a_cluster_it_prints_variants_and_formulas(here: Path, cli: Commands) -> None:
    text = cli(FAR)
    assert "digits-mlp on datacentre-100: accuracy 20 % on the test split, 1 seed" in text
    rows = [line.partition("  ")[0] for line in text.splitlines()]
    variants, formulas = ["locked", "decoupled", "local", "detached"], ["one machine", "data parallel"]
    assert [row for row in rows if row in (*variants, *formulas)] == [*variants, *formulas]
    assert "1.04 ms a step" in text
    assert list(here.iterdir()) == []


@pytest.mark.long
def test_json_has_every_seed_and_a_profile_may_be_the_users_own(here: Path, cli: Commands) -> None:
    document = "cluster: mine\nmachines: {m: {count: 2}}\ncompute: {step: 1}\n"
    (here / "mine.yaml").write_text(f"{document}links: [{{between: [m, m], latency: 2}}]\n")
    found = cli.json(TINY, "--cluster mine.yaml --target 20 --seeds 1")
    assert (found["cluster"], found["seeds"]) == ("mine", 1)
    rows = {row["name"]: row for row in found["variants"]}
    assert [run["reached"] for run in rows["decoupled"]["runs"]] == [True]
    assert rows["decoupled"]["machines"] == 2
    (here / "mine.yaml").write_text(document)
    assert "none between m and m; add {between: [m, m], latency: SECONDS}" in cli.refused(
        TINY, "--cluster mine.yaml"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (f"{TINY} --cluster datacenter", "no profile 'datacenter'"),
        (f"{TINY} --target 80", "--target: has no effect without a cluster; add --cluster PROFILE"),
        (f"{TINY} --cluster two-cores --target 0.4", "accuracy is in percent"),
        ("plan cartpole-team --cluster two-cores --target 9", "agents.motor.acts"),
    ],
)
def test_what_is_not_accepted_is_one_line(words: str, line: str, cli: Commands) -> None:
    assert line in cli.refused(words)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 us"), (4.3678, "4.37 s"), (0.0121, "12.1 ms"), (90.0, "1.5 min"), (3.6e5, "4.17 d")],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert in_time(seconds) == text
