"""Documents that were damaged or made to do harm: one line that names the place, or a scenario; never anything else."""

from __future__ import annotations

import builtins
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import antiphon
from antiphon.errors import AntiphonError, EngineError
from antiphon.scenarios import Scenario, catalogue
from tests.fuzz.conftest import Case, Cases
from tests.fuzz.hostile import HOSTILE_VALUES, mutated
from tests.kit.commands import run_command
from tests.kit.examined import values_of

LONGEST = 300
ROOT = Path(antiphon.__file__).parent
SCENARIOS, STUDIES, PROFILES = (
    [path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).glob("*.yaml"))]
    for folder in ("scenarios/library", "scenarios/studies", "distributed/virtual/profiles")
)
GRAPHS = [
    f"scenario: g\nenv: {{id: antiphon/Digits-v0}}\ngraph: {{{graph}}}\nagent: {{network: {{hidden: [4]}}, "
    "observes: [image], readout: {objective: {kind: classification, target: label}}}\nchannel: {size: 4, link: {delay: 1}}\n"
    for graph in (
        *(
            "kind: chain, agents: 9, split: 2",
            "kind: tree, agents: 15, neighbours: 2",
            "kind: ring, agents: 5",
        ),
        "kind: small_world, agents: 10, neighbours: 4, rate: 0.5, seed: 3",
        "kind: scale_free, agents: 12, neighbours: 2, readout: 3",
    )
]
EXPLICIT = """\
scenario: written-out
env: {id: antiphon/Digits-v0, hold: 4, episode: example}
agents:
  A: {observes: [image], network: {kind: lstm, size: 8, hidden: [4]}, clock: {unroll: 2}}
  B: {network: {kind: mlp, hidden: [8]}, fan_in: mean, align: A->B, objective: {kind: classification, target: label}}
  C: {observes: [image], share: g, optimiser: {kind: sgd, momentum: 0.5, schedule: {kind: steps, at: [0.5]}}}
  D: {observes: [image], share: g, optimiser: {kind: sgd, momentum: 0.5, schedule: {kind: steps, at: [0.5]}}}
channels:
  - {from: A, to: B, size: 8, link: {delay: 1, drop: 0.1}, input: {kind: mlp, context: [age, held]}}
  - {from: A, to: A, key: state, coupling: decoupled, gradient: {kind: mlp, trace: 0.5, auxiliary: 1}}
  - {from: C, to: B, size: 8, port: out, coupling: detached}
  - {from: D, to: B, size: 8, port: out, coupling: detached, read: last}
training: {batch: 8, steps: 20, predictor: {kind: adam}}
telemetry: {period: 5, value: {period: 10, horizon: 2}}
"""


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where a document starts a process."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a document started a process")

    for owner, name in (
        (os, "system"),
        (os, "popen"),
        (subprocess, "Popen"),
        (os, "execv"),
        (builtins, "input"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    return None


def in_one_line(text: str) -> None:
    length = len(re.sub(r"/\S*/", "", text))  # where the folder is does not matter: a command has it again
    assert length <= LONGEST, f"{length} characters: {text}"
    assert text.isprintable(), f"no line: {text!r}"


def refused_well(read: Callable[[], Any]) -> Any:
    """Return what a function returns; None where it raises one of antiphon's errors, in one line."""
    try:
        return read()
    except EngineError:
        raise
    except AntiphonError as error:
        in_one_line(f"error: {error}")
        return None


def command(*words: str) -> None:
    """Run a command: it succeeds, or ends with lines on stderr of which each is short."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run_command(words)
    assert code in (0, 2, 4), f"exit {code}: {err.getvalue()}"
    lines = err.getvalue().split("\n")[:-1]
    if "--json" in words and not lines:
        found = json.loads(out.getvalue())
        assert found["ok"] == (not code)
        lines = [f"error: {problem['problem']}" for problem in found["problems"]]
    assert bool(code) == any(line.startswith("error: ") for line in lines), err.getvalue()
    for line in lines:
        if line.startswith("error: "):
            in_one_line(line)
    assert "Traceback" not in err.getvalue()


@pytest.mark.long
def test_scenarios(cases: Cases, tmp_path: Path) -> None:
    def try_one(case: Case) -> None:
        text = mutated(case.choice((*SCENARIOS, *GRAPHS, EXPLICIT)), case)
        case.log.append(text[:3000])
        if case.random() < 0.5:
            refused_well(lambda: Scenario.from_yaml(text))
            return
        path = tmp_path / "scenario.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass" if case.random() < 0.5 else "ignore")
        words = ["--json"] if case.random() < 0.3 else []
        command("check", str(path), *words)

    cases(try_one, 15)


def test_settings(cases: Cases) -> None:
    templates = list(catalogue().values())

    def try_one(case: Case) -> None:
        template = case.choice(templates)
        settings = []
        for name in case.sample(sorted(template.parameters), case.choice((1, 1, 2))):
            value = case.choice(HOSTILE_VALUES)
            settings.append(f"{name}={value}"[:100_000])
        variant = case.choice((None, *template.variants, "x"))
        case.log.append(f"{template.name} {variant} {settings}"[:3000])

        def resolve() -> None:
            template.resolve(variant, values_of(settings))

        refused_well(resolve)
        if case.random() < 0.3 and all(len(one) < 1000 and "\0" not in one for one in settings):
            words = [word for one in settings for word in ("--set", one)]
            words += ["--variant", variant] if variant else []
            command("check", template.name, *words)

    cases(try_one, 15)
