"""`antiphon check`: a problem of a document with its line; the library has none, and no warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.scenarios import library_names
from tests.kit.commands import Commands
from tests.kit.tiers import sampled

MANY = """\
scenario: many
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [imge], network: {kind: mlp, hiden: [32]}}
  b:
    observes: [label]
    objective: {kind: classification, target: lable}
  c: {observes: [image], clock: {period: 0}}
channels:
  - {from: a, to: B, size: 8}
  - from: a
    to: b
    size: 8
    coupling: locked
    link: {drop: 0.1}
  - from: c
    to: b
    size: 8
    gradient: {kind: linear, context: [lable, imag]}
training: {batch: 0}
"""
FIRST = "4: agents.a.network.hiden: unknown key 'hiden'; did you mean 'hidden'?"
SOUND = (
    MANY.replace("imge", "image")
    .replace("hiden", "hidden")
    .replace("[label]", "[image]")
    .replace("lable, imag", "label")
    .replace("lable", "label")
    .replace("period: 0", "period: 1")
    .replace("{from: a, to: B, size: 8}", "{from: a, to: c, size: 8, gradient: {context: [label]}}")
    .replace("drop: 0.1", "drop: 0")
    .replace("batch: 0", "batch: 4")
)
"""The same without the problems."""


def problems(cli: Commands, text: str, *words: str) -> list[str]:
    """Return the lines with which a document is refused, without `s.yaml:`."""
    Path("s.yaml").write_text(text)
    assert cli.code("check s.yaml", *words) == 2
    assert cli.out == ""
    return [line.removeprefix("error: s.yaml:") for line in cli.err.splitlines()]


def test_the_first_problem_is_told_with_its_line(here: Path, cli: Commands) -> None:
    assert problems(cli, MANY) == [FIRST]


def test_a_run_locates_what_shows_when_it_is_built(here: Path, cli: Commands) -> None:
    Path("s.yaml").write_text(WRITTEN.replace("[image]", "[imge]"))
    line = "s.yaml:4: agents.a000.observes: no signal 'imge'; did you mean 'image'?"
    for words in ("--steps 1", "--steps 1 --seeds 2"):
        assert cli.refused("run s.yaml", words) == line


def test_without_them_the_document_is_accepted(here: Path, cli: Commands) -> None:
    Path("s.yaml").write_text(SOUND)
    assert cli("check s.yaml").splitlines()[-1] == "s.yaml: ok"
    assert cli.err == ""


WRITTEN = "scenario: many\nenv: {id: antiphon/Digits-v0}\nagents:\n" + "".join(
    f"  a{number:03}: {{observes: [image], share: s, objective: {{kind: classification, target: label}}}}\n"
    for number in range(120)
)


def test_problems_of_parameters_and_variants_are_listed(here: Path, cli: Commands) -> None:
    declared = "parameters: {width: {choices: [2], default: x}}\n"
    found = problems(cli, SOUND + declared + "variants: {a: {widht: 3}}\n")
    assert [line.partition(":")[2].partition(":")[0] for line in found] == [" parameters.width.default"]


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", sampled(library_names(), 3, "nightly"))
def test_no_variant_of_the_library_is_warned_of(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/moby_dick.txt").write_text("Call me Ishmael. " * 4_000)
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    found = cli.json("check", name, "--set agents=24" if name == "big-corporation" else "")
    assert found["problems"] == []
    assert found["warnings"] == []


def test_problems_of_a_study_and_a_population_are_told_before_they_run(here: Path, cli: Commands) -> None:
    study = "study: s\nscenario: digits-mlp\nvariants: {odd: {variant: decupled}}\ngrid: {depth: [2, 3]}\n"
    Path("s.yaml").write_text(study)
    assert "digits-mlp has no variant 'decupled'" in cli.refused("study s.yaml --logdir s")
    Path("s.yaml").write_text(f"{study}bogus: 1\n")
    assert "s.yaml:5: bogus: unknown key" in cli.refused("study s.yaml --logdir s")
    population = "population: p\nscenario: digits-mlp\nmembers: 4\nvary: {lr: [0.1, 0.2]}\n"
    for line, problem in {
        "bogus: 3": "p.yaml:5: bogus: unknown key 'bogus'",
        "set: {widt: 8}": "digits-mlp has no parameter 'widt'",
    }.items():
        Path("p.yaml").write_text(f"{population}{line}\n")
        assert problem in cli.refused("population p.yaml")
        assert problem in cli.refused("check p.yaml")
    Path("p.yaml").write_text(f"{population}steps: 7\n")
    assert cli("check p.yaml") == "p.yaml: ok\n"
    assert "lossy-links: ok with variants " in cli("check lossy-links")
