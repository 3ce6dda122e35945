"""The command line: `plan`."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.commands.cluster.plan import in_time
from tests.commands import Commands

TINY = "plan digits-mlp --set depth=2 --set width=16 --set batch=16 --seeds 1 --steps 60 --target 20"


def test_plan_prints_a_table_and_one_sentence(here: Path, cli: Commands) -> None:
    text = cli(TINY, "--cluster datacentre-100")
    assert "digits-mlp on datacentre-100: accuracy 20 % on the test split, 1 seed" in text
    for name in (
        "one machine",
        "locked",
        "1F1B pipeline",
        "data parallel",
        "async pipeline",
        "delayed",
        "local",
    ):
        assert f"\n{name} " in text
    assert "steps measured, step formula" in text
    assert "\nhere                     n0 on worker-0; n1 on worker-1" in text
    assert "\nbest for data parallel   a copy on each of worker-0, worker-1" in text
    assert text.rstrip().splitlines()[-1].startswith("On datacentre-100 decoupling ")
    assert "training: locked" in cli.err
    assert list(here.iterdir()) == []


def test_plan_reads_a_profile_of_the_users_own(here: Path, cli: Commands) -> None:
    document = "cluster: mine\nmachines: {m: {count: 2}}\ncompute: {step: 1}\n"
    (here / "mine.yaml").write_text(f"{document}links: [{{between: [m, m], latency: 2}}]\n")
    found = cli.json(TINY, "--cluster mine.yaml")
    rows = {row["rival"]: row for row in found["rivals"]}
    assert rows["locked"]["step_seconds"] == {"value": pytest.approx(2 + 4), "source": "formula"}
    assert rows["locked"]["steps"]["source"] == "measured"
    (here / "mine.yaml").write_text(document)
    assert "none between m and m; add {between: [m, m], latency: SECONDS}" in cli.refused(
        TINY, "--cluster mine.yaml"
    )


def test_agents_are_placed_as_told(here: Path, cli: Commands) -> None:
    words = "plan digits-mlp --set depth=3 --set width=8 --set batch=8 --seeds 1 --steps 2"
    found = cli.json(words, "--cluster datacentre-100 --place n0=1 --place n1=0 --place n2=0")
    assert found["placement"] == {"n0": 1, "n1": 0, "n2": 0}
    assert found["machines"] == ["worker-0", "worker-1"]
    refused = cli.refused(words, "--cluster two-cores --place *=0")
    assert "two machines at least" in refused
    assert "place: has 2 parts, not 3" in cli.refused(
        words, "--cluster node-8-gpu --place *=0 --place n0=1 --parts 3"
    )


def test_what_is_not_accepted_is_one_line(here: Path, cli: Commands) -> None:
    assert "no profile 'datacenter'" in cli.refused(TINY, "--cluster datacenter")
    assert "--cluster" in cli.refused(TINY)
    assert "accuracy is in percent" in cli.refused(TINY, "--cluster two-cores --target 0.4")
    assert "two-cores has 2 machines" in cli.refused(TINY, "--cluster two-cores --parts 3")
    assert "--parts: must be at least 2, not 1" in cli.refused(TINY, "--cluster two-cores --parts 1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0 us"),
        (4.3678, "4.37 s"),
        (0.0121, "12.1 ms"),
        (90.0, "1.5 min"),
        (3.6e5, "4.17 d"),
    ],
)
def test_times_have_three_digits(seconds: float | None, text: str) -> None:
    assert in_time(seconds) == text
