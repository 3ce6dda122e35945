"""Profiles of clusters: what is shipped, what is refused, which machine has which number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.engine.virtual.profile import ClusterProfile, ComputeSpec, find_profile
from antiphon.errors import ScenarioError
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


def profile(text: str = TWO) -> ClusterProfile:
    return ClusterProfile.from_yaml(text, "two.yaml")


def test_every_shipped_profile_is_read_and_has_the_machines_that_its_name_says() -> None:
    for name, size in {"continents-1000": 1000, "datacentre-100": 100, "two-cores": 2}.items():
        found = find_profile(name)
        assert (found.cluster, found.size) == (name, size)
        assert found.about
        assert found.link(0, size - 1).latency > 0
    assert find_profile("two-cores").machine(1).compute.measure


def test_machines_are_numbered_in_turn_from_each_group() -> None:
    assert [profile().machine(i).name for i in range(4)] == ["fast-0", "slow-0", "fast-1", "fast-2"]
    assert find_profile("continents-1000").machine(999).name == "europe-399"
    with pytest.raises(ScenarioError, match="two: no machine 4; it has 4, numbered from 0 to 3"):
        profile().machine(4)


def test_a_group_has_its_own_speed_or_the_clusters_and_a_link_is_that_of_two_groups_either_way() -> None:
    found = profile()
    assert found.machine(0).compute.seconds(1e9) == 0.5
    compute = found.machine(1).compute
    assert compute.seconds(1e9) == pytest.approx(2.0)
    # the slowest of many machines is the more often a straggler
    assert [compute.slowest(n) for n in (1, 2)] == pytest.approx([1 + 10 * 0.1, 1 + 10 * (1 - 0.9**2)])
    assert ComputeSpec(step=1).slowest(100) == 1
    assert found.link(0, 1) == found.link(1, 0)
    assert (found.link(0, 1).latency, found.link(0, 1).transfer(50)) == (1, 0.5)
    assert (found.link(0, 2).latency, found.link(0, 2).transfer(1e12)) == (0.25, 0)


REFUSED: list[tuple[str, str]] = [
    ("", "two.yaml: the document is empty; begin with 'cluster: NAME'"),
    ("[1]", "two.yaml:1: a cluster is a mapping of keys, not [1]"),
    (TWO.replace("cluster: two\n", ""), "two.yaml:2: cluster: is missing"),
    (TWO.replace("[slow, fast]", "[slow, slow]"), "two.yaml:7: links: none between fast and slow; add {between: [fast, slow]"),
    (TWO.replace("[fast, fast]", "[fast, slow]"), "two.yaml:9: links[1]: a second link between slow and fast; leave one out"),
    (TWO.replace("[fast, fast]", "[fats, fast]"), "links: none between fast and fast"),
    (TWO.replace("[fast, fast]", "[fast]"), "links[0].between: must be a list of at least 2, not ['fast']"),
    (TWO.replace("compute: {flop", "compute: {flopp"), "unknown key 'flopp'; did you mean 'flop'?"),
    (TWO.replace("flop: 2.0e-9, ", ""), "compute: a step takes no time"),
    (TWO.replace("flop: 2.0e-9", "flop: 1, measure: true"), "compute.measure: step times are measured or given"),
    (TWO.replace("latency: 1,", "latency: -1,"), "two.yaml:9: links[1].latency: must be at least 0, not -1"),
    (TWO.replace("share: 0.1", "share: 1.5"), "compute.stragglers.share: must be less than 1, not 1.5"),
    (TWO.replace("count: 3", "count: 0"), "machines.fast.count: must be at least 1, not 0"),
    ("cluster: none\nmachines: {}\n", "machines: "),
    ("cluster: none\nmachines: {a: {}}\n", "compute: is missing"),
]  # fmt: skip


def test_a_document_that_is_not_accepted_gives_one_line() -> None:
    for text, line in REFUSED:
        with one_line(re.escape(line)):
            profile(text)


def test_a_profile_is_found_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TWO, encoding="utf-8")
    assert find_profile(path).cluster == "two"
    (tmp_path / "folder.yaml").mkdir()
    path.write_bytes(b"\xff\xfe")
    for place, line in (
        ("two-core", "--cluster: no profile 'two-core'; did you mean 'two-cores'"),
        (tmp_path / "absent.yaml", r"absent\.yaml: no such file"),
        (tmp_path / "folder.yaml", "is a folder"),
        (path, "not a text file in UTF-8"),
    ):
        with one_line(line):
            find_profile(place)
