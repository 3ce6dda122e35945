"""`antiphon check --parts`: what is cut and what it costs, or what cannot be cut and the fix; for the whole library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antiphon.scenarios import library_names
from tests.kit.commands import Commands

ACTING = "acts: observations depend on the action"
UNDELAYED = "link.delay: 0: a message is read at the step at which it is sent"
LOCKED = "coupling: locked: both ends learn as one"
CUT = {"big-corporation": 1, "corporation": 1, "lossy": 3, "pipelined": 1, "ring-of-many": 4}
"""Scenarios that are cut in two as they are, with their lookahead."""
REFUSED = {
    **dict.fromkeys(("cartpole-team", "copy", "feudal-keydoor", "referential-reward"), ACTING),
    **dict.fromkeys(("capture-flag", "cartpole-prior", "repeat-copy", "speaker-listener"), ACTING),
    "char-lm": "the number of agents is 1; use at most 1",
    "mnist-split": LOCKED,
}
"""Those that are not, with the reason, where that is another than links without delay."""


LARGE = pytest.param("big-corporation", marks=pytest.mark.long)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", [LARGE, *sorted({*library_names(), "gpt", "resnet"} - {"big-corporation"})])
def test_the_library_in_two_parts(name: str, cli: Commands) -> None:
    code = cli.code("check", name, "--parts 2 --json", "--set agents=24" if name == "big-corporation" else "")
    found = json.loads(cli.out)
    assert found["checked"] == ["default"]
    if name in CUT:
        assert (code, found["problems"]) == (0, [])
        assert len(found["parts"]["division"]["parts"]) == 2
        assert found["parts"]["division"]["lookahead"] == CUT[name]
        return
    (problem,) = found["problems"]
    assert REFUSED.get(name, UNDELAYED) in problem["problem"]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("words", "lookahead"),
    [
        ("digits-mlp --set delay=3 --set depth=2", 3),
        ("corporation --set agents=6 --set delay=4 --set coupling=delayed", 1),
        ("ring-of-many --set agents=8 --set coupling=detached --set delay=8", 8),
    ],
)
def test_with_a_delay_more_of_them_are_cut(words: str, lookahead: int, cli: Commands) -> None:
    assert cli.json("check", words, "--parts 2")["parts"]["division"]["lookahead"] == lookahead


@pytest.mark.long
def test_the_table_and_json(cli: Commands) -> None:
    lines = cli("check ring-of-many --set agents=8 --parts 2").splitlines()
    assert lines[1] == "ring-of-many.yaml: ok"
    assert [line.split() for line in lines if line[:1].isdigit() and "%" in line] == [
        ["0", "n0,", "n1,", "…", "(4)", "50.00", "%"],
        ["1", "n4,", "n5,", "…", "(4)", "50.00", "%"],
    ]
    assert "4 of 16 channels are cut: 16,384 bytes a step" in lines
    assert "lookahead 4 steps (n0->n7, n3->n4, … (4)): an exchange may take as long as 4 steps" in lines
    assert "at most 2.00 times as fast as one part, without the time of exchanges" in lines
    parts = cli.json("check ring-of-many --set agents=6 --set readouts=2 --parts 3")["parts"]
    assert parts["placement"] == {"n0": 0, "n1": 0, "n2": 1, "n3": 1, "n4": 2, "n5": 2}
    assert set(parts["division"]["cut"]) == {"n1->n2", "n2->n1", "n3->n4", "n4->n3", "n5->n0", "n0->n5"}


@pytest.mark.long
def test_a_placement(here: Path, cli: Commands) -> None:
    found = cli.json(["check", "lossy", "--parts", "*=0", "--parts", "n3=1"])["parts"]
    assert found["placement"] == {"n0": 0, "n1": 0, "n2": 0, "n3": 1}
    assert list(found["division"]["cut"]) == ["n2->n3"]
    Path("place.yaml").write_text("n*: 1\nn2: 0\n")
    found = cli.json("check lossy --parts place.yaml")["parts"]
    assert found["placement"] == {"n0": 1, "n1": 1, "n2": 0, "n3": 1}
    assert found["division"]["lookahead"] == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "digits-mlp --parts *=0 --parts n3=1",
            (f"channels[n2->n3].{UNDELAYED}, but 'n2' is in part 0 and 'n3' is in part 1; "
            "give the channel `link: {delay: 1}`, or place both ends together"),
        ),
        ("lossy --parts *=0 --parts 2", "--parts 2: a number of parts must be alone; leave out the other --parts"),
        ("lossy-links --parts 2", "check: lossy-links is a study; --parts needs a scenario"),
        ("lossy --parts 0", "must be at least 1, not 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_a_line_with_the_fix(words: str, line: str, cli: Commands) -> None:
    assert line in cli.refused("check", words)


def test_a_document_with_other_problems_is_not_cut(here: Path, cli: Commands) -> None:
    Path("s.yaml").write_text("scenario: s\nenv: {id: antiphon/Digits-v0}\nagents: {a: {observes: [imge]}}\n")
    assert cli.code("check s.yaml --parts 2") == 2
    assert all("parts" not in line for line in cli.err.splitlines())
