"""Profiles of clusters that are not accepted, each for one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.distributed.virtual.profile import find_profile
from tests.engine.numbers import one_line

TWO = """
cluster: two
machines:
  fast: {count: 3, compute: {step: 0.5}}
  slow: {}
compute: {flop: 2.0e-9, stragglers: {share: 0.1, factor: 11}}
links:
  - {between: [fast, fast], latency: 0.25}
  - {between: [slow, fast], latency: 1, bandwidth: 100}
"""
REFUSED: list[tuple[str, str]] = [
    ("", "two.yaml: is empty; begin with 'cluster: NAME'"),
    ("[1]", "two.yaml:1: a cluster is a mapping of keys, not [1]"),
    (TWO.replace("cluster: two\n", ""), "two.yaml:2: cluster: is missing"),
    (TWO.replace("[slow, fast]", "[slow, slow]"), "two.yaml:7: links: none between fast and slow; add {between: [fast, slow]"),
    (TWO.replace("[fast, fast]", "[fast, slow]"), "two.yaml:9: links[1]: a second link between slow and fast; leave one out"),
    (TWO.replace("[fast, fast]", "[fats, fast]"), "links: none between fast and fast"),
    (TWO.replace("latency: 1,", "latency: 0, jitter: 0.1,"), "links[1].jitter: multiplies the latency, and latency is 0"),
    (TWO.replace("[fast, fast]", "[fast]"), "links[0].between: must be a list of at least 2, not ['fast']"),
    (TWO.replace("compute: {flop", "compute: {flopp"), "unknown key 'flopp'; did you mean 'flop'?"),
    (TWO.replace("flop: 2.0e-9, ", ""), "compute: a step takes no time"),
    (TWO.replace("latency: 1,", "latency: -1,"), "two.yaml:9: links[1].latency: must be at least 0, not -1"),
    (TWO.replace("share: 0.1", "share: 1.5"), "compute.stragglers.share: must be less than 1, not 1.5"),
    (TWO.replace("count: 3", "count: 0"), "machines.fast.count: must be at least 1, not 0"),
    ("cluster: none\nmachines: {}\n", "machines: "),
    ("cluster: none\nmachines: {a: {}}\n", "compute: is missing"),
    ("\x00", "two.yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=range(len(REFUSED)))
def test_a_document_that_is_not_accepted_gives_one_line(text: str, line: str, here: Path) -> None:
    Path("two.yaml").write_text(text, encoding="utf-8")
    with one_line(re.escape(line)):
        find_profile("two.yaml")


def test_a_profile_that_is_not_found_or_read_gives_one_line(here: Path) -> None:
    Path("folder.yaml").mkdir()
    Path("bytes.yaml").write_bytes(b"\xff\xfe")
    for place, line in (
        ("two-core", "cluster: no profile 'two-core'; did you mean 'two-cores'"),
        ("absent.yaml", r"absent\.yaml: no such file"),
        ("folder.yaml", "is a folder"),
        ("bytes.yaml", "not a text file in UTF-8"),
    ):
        with one_line(line):
            find_profile(place)
