"""The lives of messages: the tables of engine/heart/message_lives.py say what a run computes."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.numerics.played import Played
from tests.reference.backend import Chosen, reference

HEART = Path(__file__).parents[3] / "engine" / "heart"
STEPS, BATCH = 18, 4
LIVES = (
    ("a->b", "decoupled", 6, 15),
    ("b->a", "decoupled", 4, 16),
    ("a->b", "delayed", 6, 16),
    ("a->b", "locked", 6, 16),
    ("a->b", "locked", 10, 16),
)
"""The messages of the tables, in their order: channel, the coupling of a->b, stamp, and the step at which each is gone."""
LINEAR = {"kind": "mlp", "hidden": [], "norm": "none"}


def docstring(source: Path) -> str:
    """The docstring of a file."""
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")), clean=False) or ""


def simulation_of(
    ends_at: int, backend: Chosen, coupling: str = "decoupled", horizon: int | None = None
) -> Simulation:
    """The agents of the docstring; the episodes of environments 0 and 1 end at a step. `coupling`, `horizon`: those of a->b."""
    noise = torch.Generator().manual_seed(0)
    terminated = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    terminated[ends_at, :2] = True
    shown = {
        name: torch.randn(STEPS, BATCH, size, generator=noise, dtype=torch.float64)
        for name, size in (("x", 3), ("goal", 1))
    }
    agents = {
        name: {
            "observes": ["x"],
            "network": LINEAR,
            "clock": clock,
            "objective": {"kind": "regression", "target": "goal"},
        }
        for name, clock in (("a", {"unroll": 4}), ("b", {"period": 4, "unroll": 2}))
    }
    channel = {"size": 2, "norm": "none", "link": {"delay": 2}}
    predicted = {"gradient": {"context": ["goal"]}}
    there: dict[str, Any] = predicted if coupling == "decoupled" else {"coupling": coupling}
    there |= {} if horizon is None else {"horizon": horizon}
    document = {
        "scenario": "life",
        "env": Played(shown, (), terminated, torch.zeros_like(terminated)),
        "agents": agents,
        "channels": [
            channel | {"from": "a", "to": "b"} | there,
            channel | {"from": "b", "to": "a"} | predicted,
        ],
        "training": {"batch": BATCH, "steps": STEPS},
    }
    return Simulation(Scenario.model_validate(document), dtype=torch.float64, backend=backend)


def lived(
    channel: str, stamp: int, ends_at: int, backend: Chosen, coupling: str = "decoupled"
) -> dict[int, list[list[int]]]:
    """Of a message, by step: the environments in which it is void, void and unread, and counted, and has a gradient; gone: empty."""
    life: dict[int, list[list[int]]] = {}
    with simulation_of(ends_at, backend, coupling) as simulation:
        for step in range(STEPS - 1):
            simulation.step()
            message = simulation.channels[channel].messages.get(stamp)
            if message is None:
                life[step] = []
                continue
            none = torch.zeros(BATCH, dtype=torch.bool)
            gradient = none if message.gradient is None else message.gradient.any(1)
            life[step] = [places(m) for m in (message.void, ~message.injects, message.counted, gradient)]
    return life


def places(mask: Tensor) -> list[int]:
    """The environments of a mask."""
    return mask.nonzero().flatten().tolist()


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_tables_are_what_a_run_computes(backend: Chosen) -> None:
    tables = re.findall(r"(    step  void.*?)(?:\n\n|\Z)", docstring(HEART / "message_lives.py"), re.DOTALL)
    for table, (channel, coupling, stamp, gone) in zip(tables, LIVES, strict=True):
        rows = table.splitlines()
        starts = [
            rows[0].index(name) for name in ("step", "void", "void_unread", "counted", "gradient", "methods")
        ]
        life = lived(channel, stamp, 7, backend, coupling)
        for row in (row for row in rows[1:] if row[: starts[1]].strip()):  # others continue one
            step, *columns = (row[start:end].strip() for start, end in pairwise(starts))
            written = (
                []
                if "gone" in columns
                else [[int(n) for n in column.strip("-").split()] for column in columns]
            )
            assert life[int(step)] == written, (channel, step)
        assert [step for step, facts in life.items() if facts] == list(range(stamp, gone))


@pytest.mark.parametrize(
    ("coupling", "gone"), [("decoupled", (8, 10)), ("delayed", (16, 16)), ("locked", (8, 10))]
)
def test_messages_that_no_tick_reads_stay_until_their_window_injects_no_more(
    coupling: str, gone: tuple[int, int]
) -> None:
    for stamp, step in zip((5, 7), gone, strict=True):
        life = lived("a->b", stamp, 7, "cohort", coupling)
        assert [step for step, facts in life.items() if facts] == list(range(stamp, step))
        assert not any(facts[2] for facts in life.values() if facts)


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_end_after_the_tick_that_reads_it_takes_nothing_back(backend: Chosen) -> None:
    assert lived("a->b", 6, 9, backend)[12] == [[0, 1], [], [0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_end_cuts_the_message_of_its_own_step_and_none_that_is_sent_later(backend: Chosen) -> None:
    life = lived("a->b", 6, 6, backend)
    assert (life[6], life[12]) == ([[0, 1], [0, 1], [], []], [[0, 1], [0, 1], [2, 3], [2, 3]])
    assert lived("a->b", 6, 5, backend)[12] == [[], [], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_what_the_heart_points_to_exists() -> None:
    """Every `Class.member` that a file of the heart names in its docstring, and every file of changes.py."""
    folder, root = HEART, HEART.parents[1]
    folders = folder, root / "comms", root / "nets", root / "engine" / "features"
    sources = [source for folder in folders for source in folder.glob("*.py")]
    members: dict[str, set[str]] = {}
    for tree in (ast.parse(source.read_text(encoding="utf-8")) for source in sources):
        for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            named = members.setdefault(kind.name, set())
            for node in ast.walk(kind):
                if isinstance(node, ast.FunctionDef):
                    named.add(node.name)
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    named.add(node.target.id)
    for source in folder.glob("*.py"):
        for kind_name, member in re.findall(r"\b([A-Z]\w+)\.([a-z]\w+)", docstring(source)):
            assert member in members.get(kind_name, ()), f"{source.name}: {kind_name}.{member}"
    # `folder/{one, other}.py` names two
    for place, names, ending in re.findall(
        r"([\w/]*)(?:\{([\w\s,]+)\}|(?<=\w))(\.py)\b", docstring(HEART / "changes.py")
    ):
        for path in (f"{place}{name}{ending}" for name in re.split(r",\s+", names)):
            assert (folder / path).exists() or (root / path).exists(), path


@pytest.mark.parametrize(
    ("horizon", "learned"), [(None, [7, 15]), (2, [7, 15]), (1, [7, 11, 15])], ids=["long", "2", "1"]
)
def test_a_window_that_waits_moves_nothing_until_its_gradients_are_back_or_given_up(
    horizon: int | None, learned: list[int]
) -> None:
    """At the end of the horizon itself a gradient that is back by then is injected: it moves `a` as with a longer one."""
    with simulation_of(7, "cohort", "delayed", horizon) as simulation:
        moved, before = [], None
        for _ in range(STEPS - 1):
            simulation.step()
            now = torch.cat([p.flatten() for p in simulation.agents["a"].parameters.values()]).clone()
            moved.append(before is None or not torch.equal(now, before))
            before = now
    assert [step for step in range(1, len(moved)) if moved[step]] == learned
    with simulation_of(7, "cohort", "delayed") as simulation:
        simulation.run(steps=STEPS - 1)
        patient = torch.cat([p.flatten() for p in simulation.agents["a"].parameters.values()])
    assert torch.equal(now, patient) == (horizon != 1)


def test_the_predictor_learns_when_the_gradient_is_back() -> None:
    with simulation_of(7, "cohort") as simulation:
        predictor = simulation.channels["a->b"].synthetic_gradient
        assert predictor is not None
        counts = []
        for _ in range(STEPS - 1):
            simulation.step()
            counts.append(predictor.updates)
    assert [step for step in range(1, len(counts)) if counts[step] > counts[step - 1]] == [6, 14]
