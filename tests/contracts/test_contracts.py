"""Whoever computes it, it is the same: every document, run in every way, is held to its plain run."""

from __future__ import annotations

import tempfile
from functools import lru_cache, partial
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from antiphon import Scenario, ScenarioError
from tests.contracts.builders import Document
from tests.contracts.documents import DOCUMENTS, scenario_of
from tests.contracts.drawn_scenes import scenes
from tests.contracts.games import acting
from tests.contracts.observers import EXACT, OBSERVERS, Making, NotApplicable, Plain, run_plainly
from tests.contracts.twins import step_by_step, unsteady
from tests.faults.plant import FAULTS

OFTEN = {"saved": 192, "sweep": 192, "seeds": 192, "parts": 192, "recorded": 384, "replayed": 384}
"""One in how many documents an observer sees in `make test`; twice as many in `make test-all`, at night all see all. Even numbers."""
NEEDED = {fault.caught_by for fault in FAULTS}
"""Cases that the planted faults name: each is in `make test`."""
FAMILIES = ("unlike", "library", "acting", "tokens", "pixels", "symbols", "network")
"""Documents that differ from each other in one thing: of these the reference sees one in 128 in `make test`."""
RARE = 384
"""The same, of the other observers, but for the reference: see `_often`."""
TEST = "tests/contracts/test_contracts.py::test_documents"
DRAWN: dict[str, st.SearchStrategy[Document]] = {
    "alike": scenes(),
    "acting": acting(),
    "graphs": scenes(bits=True, alike=False),
}
"""Documents at random: of agents that are stacked, of agents that act, of agents of all kinds."""
EXAMPLES = {"reference": 1}
"""Of drawn documents in `make test`, by observer; the others see `AT_NIGHT` each at night."""
AT_NIGHT = 20


@lru_cache(maxsize=2)
def plain_run(name: str) -> Plain:
    """Return the plain run of a document, made once for all observers."""
    return run_plainly(partial(scenario_of, name))


def hold(plain: Plain, observer: str, folder: Path) -> None:
    """Hold what an observer sees to the plain run; from step to step where rounding alone leads further away than the tolerance."""
    try:
        found = list(OBSERVERS[observer](plain, folder))
    except NotApplicable:
        return
    if found and observer not in EXACT and unsteady(plain.scenario()):
        step_by_step(plain.scenario())
        return
    assert not found, "\n".join([f"{len(found)} differ:", *found[:12]])


def _often(name: str, observer: str) -> int:
    """One in how many documents like this one an observer sees in `make test`."""
    if observer == "reference":
        return 128 if name.startswith(FAMILIES) and not name.endswith("{}") else 32
    return OFTEN.get(observer, RARE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the cases that the tier runs, and no others: the night has thousands."""
    if metafunc.function is test_documents:
        tier = metafunc.config.option.markexpr
        left_out = {mark for mark in ("long", "nightly") if f"not {mark}" in tier}
        found = [case for case in cases() if left_out.isdisjoint(mark.name for mark in case.marks)]
        metafunc.parametrize(("name", "observer"), found)


def cases() -> list[ParameterSet]:
    """Each document with all its observers in a row, so that its plain run is made once."""
    found: list[ParameterSet] = []
    for i, name in enumerate(DOCUMENTS):
        for j, observer in enumerate(OBSERVERS):
            often = 1 if f"{TEST}[{name}-{observer}]" in NEEDED else _often(name, observer)
            slow = observer == "recorded" and name.startswith("acting")
            long = [] if (i + j) % often == 0 and not slow else [pytest.mark.long]
            night = [pytest.mark.nightly] if (i + j) % max(1, often // 2) else []
            found.append(pytest.param(name, observer, id=f"{name}-{observer}", marks=[*long, *night]))
    return found


def test_documents(name: str, observer: str, tmp_path: Path) -> None:
    hold(plain_run(name), observer, tmp_path)


def maker(document: Document) -> Making:
    """Return what makes the scenario of a document."""
    return lambda **training: Scenario.model_validate(
        {**document, "training": {**document["training"], **training}}
    )


@pytest.mark.parametrize(
    "observer", [pytest.param(o, marks=() if o in EXAMPLES else (pytest.mark.nightly,)) for o in OBSERVERS]
)
@pytest.mark.parametrize("kind", DRAWN)
def test_drawn_documents(kind: str, observer: str) -> None:
    @settings(max_examples=EXAMPLES.get(observer, AT_NIGHT), database=None)
    @given(DRAWN[kind])
    def drawn(document: Document) -> None:
        try:
            plain = run_plainly(maker(document))
        except ScenarioError:
            assume(False)
        with tempfile.TemporaryDirectory() as folder:
            hold(plain, observer, Path(folder))

    drawn()
