"""Names as parts of tags, and refusals of the file system."""

from __future__ import annotations

import re

import pytest

from antiphon.telemetry.names import tag_part


@pytest.mark.parametrize("name", ["a", "n00", "left-eye", "a__to__b", "v1.2"])
def test_names_of_scenarios_stay_as_they_are(name: str) -> None:
    assert tag_part(name) == name


def test_other_names_become_one_harmless_part_each_its_own() -> None:
    names = ["", "a/b", "../../etc", "<b>x</b>", "a b", "a:b", "a|b", "ä", "a\nb", "x" * 500 + "/"]
    parts = [tag_part(name) for name in names]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]{9,80}", part) for part in parts)
    assert parts == [tag_part(name) for name in names]
    assert len({*parts, tag_part("a_b")}) == len(names) + 1
