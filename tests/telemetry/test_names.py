"""Names as parts of tags, and refusals of the file system."""

from __future__ import annotations

import re

import pytest

from antiphon.telemetry.names import tag_part


@pytest.mark.parametrize("name", ["a", "n00", "left-eye", "a__to__b", "v1.2"])
def test_names_of_scenarios_stay_as_they_are(name: str) -> None:
    assert tag_part(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "../../etc", "<b>x</b>", "a b", "ä", "a\nb", "x" * 500 + "/"])
def test_other_names_become_one_harmless_part(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.\-]{9,80}", tag_part(name))
    assert tag_part(name) == tag_part(name)


def test_two_names_never_share_a_part() -> None:
    assert len({tag_part(name) for name in ("a/b", "a_b", "a b", "a:b", "a|b")}) == 5
