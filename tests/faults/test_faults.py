"""The planted faults can be planted: each one's text stands in its file, and the test that catches it is there."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.faults.plant import FAULTS, ROOT, TIERS


@pytest.mark.parametrize("part", range(4))
def test_every_fault_applies(part: int) -> None:
    wrong = []
    for fault in FAULTS[part::4]:
        text = (ROOT / fault.file).read_text() if (ROOT / fault.file).is_file() else ""
        if text.count(fault.old) != 1 or fault.old == fault.new:
            wrong.append(fault.name)
        ast.parse(text.replace(fault.old, fault.new))
    assert wrong == []


def test_no_two_have_one_name() -> None:
    assert [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1] == []
    assert {fault.tier for fault in FAULTS} <= set(TIERS)


def test_what_catches_each_is_there() -> None:
    gone = {}
    for fault in FAULTS:
        if fault.caught_by is not None:
            file, _, function = fault.caught_by.partition("::")
            text = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
            if not text or f"def {function.partition('[')[0]}(" not in text + "def (":
                gone[fault.name] = fault.caught_by
    assert gone == {}
