"""What cannot be measured is refused in one line: every probe of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from antiphon import Simulation
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY
from tests.inspection.probed import EYE, JUDGE, chain, make
from tests.inspection.test_language import talking
from tests.kit.documented import ablate, language

Scenes = dict[str, Simulation]
REFUSED: list[tuple[str, Callable[[Simulation], Any], str]] = [
    ("plain", lambda s: s.probe(horizon=-1), "probe: horizon=-1; must be a whole number, at least 0"),
    ("plain", lambda s: s.value(["a->c"]), "value: 'a->c' is no channel"),
    ("plain", lambda s: s.value(horizon=0), "value: horizon=0; must be a whole number, at least 1"),
    ("plain", lambda s: s.value(repeats=1), "value: repeats=1; must be a whole number, at least 2"),
    ("plain", lambda s: s.value(horizon=None), "value: horizon=None; must be a whole number, at least 1"),
    ("plain", lambda s: s.value(ahead=-1), "value: ahead=-1; must be a whole number, at least 0"),
    ("alone", lambda s: s.value(), "value: the scenario has no channels"),
    ("plain", lambda s: language(s), "language: no channel carries symbols"),
    ("talking", lambda s: language(s, channels=["b->a"]), "^language: 'b->a' is no channel of symbols; known: a->b$"),
    ("talking", lambda s: language(s, examples=0), "language: examples=0; must be a whole number, at least 1"),
    ("plain", lambda s: ablate(s, "resample", examples=1), "ablate: resample needs messages of another example; use 2"),
    ("plain", lambda s: ablate(s, "zreo"), "ablate: no kind 'zreo'; did you mean 'zero'"),
    ("plain", lambda s: ablate(s, "zero", channels=["a->bb"]), "ablate: 'a->bb' is no channel; did you mean 'a->b'"),
    ("plain", lambda s: ablate(s, "zero", split="tset"), "no split 'tset'; did you mean 'test'"),
    ("plain", lambda s: ablate(s, "zero", examples=0), "ablate: examples=0; must be a whole number, at least 1"),
    ("alone", lambda s: ablate(s, "zero"), "ablate: the scenario has no channels"),
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return {
        "plain": make({"a": EYE, "b": JUDGE}, [{"from": "a", "to": "b"}]),
        "locked": chain("locked"),
        "alone": make({"a": {**EYE, "objective": CLASSIFY}}, []),
        "talking": talking(),
    }


@pytest.mark.parametrize(("scene", "measure", "line"), REFUSED)
def test_what_cannot_be_measured_is_one_line(
    scene: str, measure: Callable[[Simulation], Any], line: str, scenes: Scenes
) -> None:
    with one_line(line):
        measure(scenes[scene])
