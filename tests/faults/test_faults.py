"""The planted faults can be planted: each one's text stands in its file, and the test that catches it is there."""

from __future__ import annotations

import ast

from tests.faults.plant import FAULTS, ROOT


def test_every_fault_applies() -> None:
    wrong = []
    for fault in FAULTS:
        text = (ROOT / fault.file).read_text() if (ROOT / fault.file).is_file() else ""
        if text.count(fault.old) != 1 or fault.old == fault.new:
            wrong.append(fault.name)
        ast.parse(text.replace(fault.old, fault.new))
    assert wrong == []


def test_what_catches_each_is_there() -> None:
    gone = {}
    for fault in FAULTS:
        file, _, function = fault.caught_by.partition("::")
        text = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
        if not text or f"def {function.partition('[')[0]}(" not in text + "def (":
            gone[fault.name] = fault.caught_by
    assert gone == {}
