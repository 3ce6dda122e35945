"""State of simulations of the cohort backend: saved, forked, reset, looked at, handed to the other backend."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.probes.ceiling import ceilings
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.contracts.backend_documents import STEPS, Document, Play, levels, ring
from tests.contracts.backend_scenes import scenes
from tests.contracts.backend_sites import SITES
from tests.contracts.backend_twins import agree, differences, made, side_by_side, stacked, twins
from tests.engine.numbers import assert_same_state, kept

LSTM: Document = {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 3}}
GRU: Document = {"network": {"kind": "gru", "size": 4}, "clock": {"unroll": "episode"}}
MLP: Document = {"gradient": {"kind": "mlp", "hidden": [4], "context": ["label", "returned"]}}
TRACED: Document = {"gradient": {"kind": "linear", "context": ["label"], "trace": 0.5, "span": 3}}
INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
BATCH: Document = {"network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}
ENDS = Play(share=0.15)
SYMBOLS: Document = {"symbols": {"vocabulary": 3, "length": 2, "temperature": 0.7}}
CASES: dict[str, Document] = {
    "ring": ring(channel=MLP),
    "recurrent": ring(agent=LSTM, state=MLP, env=ENDS),
    "returns of states": ring(agent=LSTM, state=TRACED, env=ENDS),
    "told of states": ring(agent=LSTM, channel={"gradient": {"context": ["from.state", "to.state"]}}),
    "delayed links": ring(channel={**MLP, "link": {"delay": 3}}, agent={"clock": {"unroll": 2}}),
    "p_update": ring(agent={"p_update": 0.5, "clock": {"unroll": 2}}),
    "drops": ring(channel={"link": {"delay": 1, "drop": 0.4, "noise": 0.1}}),
    "inputs": ring(channel={"input": INPUT, "link": {"delay": 2, "drop": 0.4}}, env=ENDS),
    "unlocked": levels(channel={"coupling": "unlocked", "input": INPUT}, wide=True),
    "locked windows": levels(
        low={"clock": {"unroll": 4}}, channel={"coupling": "locked", "link": {"delay": 1}}
    ),
    "tapes that wait": levels(
        low={"clock": {"unroll": 2}}, channel={"coupling": "delayed", "link": {"delay": 2}}
    ),
    "batch norm": ring(agent=BATCH, channel={"norm": "batch"}, env=ENDS),
    "clocks": ring(8, agent=[{"clock": {"period": p, "unroll": 5 - p, "phase": -1}} for p in (1, 2, 3, 4)]),
    "reads": levels(high={"clock": {"period": 3}}, channel={"read": "concat"}, wide=True, env=ENDS),
    "episodes": ring(agent=GRU, state={"coupling": "locked"}, env=Play(lengths=(6, 8))),
    "critics": levels(
        channel={"gradient": {"kind": "sobolev", "hidden": [4], "norm": "layer"}, "link": {"delay": 1}}
    ),
    "stand-ins of who is not drawn": levels(
        high={"network": {"kind": "rnn", "size": 4}, "clock": {"unroll": 2}, "p_update": 0.5},
        channel={"coupling": "unlocked", "input": INPUT},
    ),
    "some alone": ring(6, agent=[{}, {}, {"share": "g"}], channel={"port": "out", "norm": "layer"}),
    "symbols": ring(agent={"clock": {"unroll": 3}}, channel={"size": 6, **SYMBOLS}, env=ENDS),
    "symbols that wait": levels(
        low={"clock": {"unroll": 2}},
        channel={"coupling": "delayed", "link": {"delay": 2}, "size": [2, 3], **SYMBOLS},
    ),
    "quarantine": ring(on_divergence="quarantine", bound=0.9),
    **{name: SITES[name] for name in ("tokens, mlp", "pixels, sobolev", "pixels, inputs")},
}
HANDED = (
    "recurrent",
    "returns of states",
    "inputs",
    "tapes that wait",
    "batch norm",
    "reads",
    "critics",
    "some alone",
)
"""What has a state of another kind in either backend; the others are handed over at night."""
DIGITS: Document = {"id": "antiphon/Digits-v0", "hold": 7, "episode": "example"}


def state(simulation: Simulation) -> dict[str, Any]:
    return kept(simulation._state_dict())


def go_on(document: Document, steps: tuple[int, ...], **settings: Any) -> None:
    """Save, load and fork after so many steps, and hold all that goes on to the run that nothing was done to."""
    unbroken, run = made(document, "cohort", **settings), made(document, "cohort", **settings)
    ends: list[Simulation] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(STEPS):
            if step in steps:
                before = state(run)
                saved = run.save(Path(folder) / str(step))
                ends += [
                    run.fork(),
                    Simulation.load(saved, Scenario.model_validate(document), backend="cohort"),
                ]
                assert_same_state(state(run), before)
            run.step()
            unbroken.step()
    expected = state(unbroken)
    assert_same_state(state(run), expected)
    for simulation in ends:
        assert simulation.backend.name == "cohort"
        simulation.run(STEPS - simulation.now)
        assert_same_state(state(simulation), expected)


# --- the same bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_saved_and_forked_runs_go_on_to_the_same_bits(case: str) -> None:
    go_on(CASES[case], (4, 9), dtype=torch.float32)


@settings(max_examples=8)
@given(scenes(), st.integers(1, STEPS - 1))
def test_random_scenarios_go_on_to_the_same_bits(scene: Document, early: int) -> None:
    go_on(scene, (early,), dtype=torch.float32)


@pytest.mark.nightly
@settings(max_examples=300)
@given(scenes(), st.integers(1, STEPS - 1))
def test_many_random_scenarios_go_on_to_the_same_bits(scene: Document, early: int) -> None:
    go_on(scene, (early, STEPS - 1), dtype=torch.float32)


@pytest.mark.parametrize("case", ["recurrent", "drops", "batch norm", "clocks"])
def test_looking_changes_no_bit(case: str) -> None:
    unbroken, run = made(CASES[case], "cohort"), made(CASES[case], "cohort")
    for step in range(STEPS):
        unbroken.step()
        run.step()
        if step % 3:
            assert run._system.agents
            assert run.learned.updates is not None
            run._state_dict()
    assert_same_state(state(run), state(unbroken))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_telemetry_changes_no_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    telemetry = {"telemetry": {"every": 9, "histograms": True}}
    for i, case in enumerate(("recurrent", "inputs")):
        plain = made({**CASES[case], **telemetry}, "cohort", dtype=dtype)
        plain.run()
        with made({**CASES[case], **telemetry}, "cohort", dtype=dtype, logdir=tmp_path / str(i)) as watched:
            watched.run()
            ours, theirs = (
                {k: v for k, v in state(run).items() if "tally" not in k} for run in (watched, plain)
            )
            assert_same_state(ours, theirs)


@pytest.mark.parametrize("case", ["recurrent", "inputs", "critics"])
def test_figures_are_those_of_the_reference(case: str, tmp_path: Path) -> None:
    rows = []
    for backend in ("reference", "cohort"):
        document = {**CASES[case], "telemetry": {"every": 4}}
        with made(document, backend, logdir=tmp_path / backend) as simulation:
            simulation.run()
        lines = (tmp_path / backend / "metrics.csv").read_text().splitlines()
        cells = [line.split(",") for line in lines[1:] if ",seconds," not in line]
        rows.append({tuple(row[:-1]): torch.tensor(float(row[-1] or "nan")) for row in cells})
    assert rows[0]
    assert rows[0].keys() == rows[1].keys()
    far = [
        k
        for k, v in rows[0].items()
        if not torch.isclose(v, rows[1][k], rtol=1e-5, atol=1e-6, equal_nan=True)
    ]
    assert not far, far[:12]


# --- from one backend to the other -----------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_states_are_alike(case: str) -> None:
    reference, cohort = twins(CASES[case])
    for simulation in (reference, cohort):
        simulation.run(11)
    ours, theirs = state(reference), state(cohort)
    assert list(ours) == list(theirs)
    shared = re.compile(r"/uses/\d+/2$")  # whether the uses of a window share a leaf
    found = [one for one in differences(ours, theirs) if not shared.search(one.partition(": ")[0])]
    assert not found, "\n".join(found[:12])


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in HANDED else (pytest.mark.nightly,)) for case in CASES]
)
def test_checkpoints_go_from_one_backend_to_the_other(case: str, tmp_path: Path) -> None:
    reference, cohort = twins(CASES[case])
    for run, other, early in ((reference, "cohort", 5), (cohort, "reference", 10)):
        run.run(early)
        saved = run.save(tmp_path / other)
        loaded = Simulation.load(saved, Scenario.model_validate(CASES[case]), backend=other)
        fork = run.fork(other)
        assert loaded.backend.name == fork.backend.name == other
        side_by_side(run, loaded, STEPS - early)
        fork.run(STEPS - early)
        agree(run, fork)


# --- looking ---------------------------------------------------------------------------------------------


def on_digits() -> tuple[Simulation, Simulation]:
    """A ring of recurrent agents over pictures, by either backend, in mid-window."""
    agent = {"observes": ["left_half"], "network": {"kind": "gru", "size": 6}, "clock": {"unroll": 3}}
    reference, cohort = twins(ring(agent=agent, channel=MLP, state=MLP, env=DIGITS))
    assert stacked(cohort)
    for simulation in (reference, cohort):
        simulation.run(10)
    return reference, cohort


def close(one: Any, other: Any, *, tolerance: float = 1e-9) -> None:
    """Hold two numbers, tensors or trees of them to each other."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            close(value, other[key], tolerance=tolerance)
    elif one is None or isinstance(one, str):
        assert one == other
    else:
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_evaluation_and_composition() -> None:
    reference, cohort = on_digits()
    before = state(cohort)
    for links in ("perfect", "as_run"):
        scores = [simulation.evaluate("validation", links) for simulation in (reference, cohort)]
        close(scores[0].agents, scores[1].agents)
    x = torch.rand(5, 1, 8, 4, dtype=torch.float64)
    close(*(simulation.compose()(left_half=x) for simulation in (reference, cohort)))
    modules = [simulation.agents["n1"].module for simulation in (reference, cohort)]
    assert str(modules[0]) == str(modules[1])
    assert_same_state(state(cohort), before)


def test_probes() -> None:
    reference, cohort = on_digits()
    before = state(cohort)
    probes = [simulation.probe(horizon=4) for simulation in (reference, cohort)]
    assert probes[0].keys() == probes[1].keys()
    for name, probe in probes[0].items():
        close(probe.true, probes[1][name].true)
        close(probe.synthetic, probes[1][name].synthetic)
    assert_same_state(state(cohort), before)


@pytest.mark.nightly
def test_ceilings() -> None:
    reference, cohort = on_digits()
    before = state(cohort)
    found = ({name: row.to_dict() for name, row in ceilings(s).items()} for s in (reference, cohort))
    close(*found, tolerance=1e-5)
    assert_same_state(state(cohort), before)


def test_value() -> None:
    reference, cohort = on_digits()
    before = state(cohort)
    found = [s.value(channels=["n0->n1"], horizon=4, repeats=2, ahead=3) for s in (reference, cohort)]
    for name in ("all channels", "n0->n1"):
        rows = [values[name] for values in found]
        close(*({"true": row.true, "value": row.value, "why": row.why} for row in rows), tolerance=1e-6)
    assert_same_state(state(cohort), before)


def test_figures_recordings_and_the_graph() -> None:
    reference, cohort = on_digits()
    wanted = {
        "n0->n1": ["message", "prediction", "delta"],
        "n2->n2:state": ["message", "prediction", "delta"],
    }
    kept = [[s.record(name, some) for name, some in wanted.items()] for s in (reference, cohort)]
    for simulation in (reference, cohort):
        simulation.run(9)
    for ours, theirs in zip(*kept, strict=True):
        assert ours.steps == theirs.steps
        for quantity in ours.quantities:
            close(ours.stack(quantity), theirs.stack(quantity))
    close(*(simulation.channels["n0->n1"].figures() for simulation in (reference, cohort)), tolerance=1e-6)
    nodes = [simulation.graph.nodes(data=True) for simulation in (reference, cohort)]
    assert [name for name, _ in nodes[0]] == [name for name, _ in nodes[1]]
