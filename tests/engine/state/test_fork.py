"""Forks and checkpoints: what a copy needs, leaves alone and keeps; and that a checkpoint is whole or is not there.

That copies go on to the same bits is tried for every document of tests/contracts.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from torch import Tensor

from antiphon import RunError, Scenario, Simulation
from tests.engine.scenes import CLASSIFY, scenario_of


def chain(coupling: str = "locked", width: int = 5) -> Scenario:
    """a -> b, in windows of four ticks."""
    own = {"network": {"kind": "mlp", "hidden": [width]}, "clock": {"unroll": 4}}
    agents = {"a": {"observes": ["image"], **own}, "b": {"objective": CLASSIFY, **own}}
    channel = {"from": "a", "to": "b", "size": 4, "coupling": coupling, "link": {"delay": 1}}
    optimiser = {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, [channel], {"hold": 2}, batch=4, steps=50, optimiser=optimiser)


def holds_graph(tensor: Tensor) -> bool:
    try:
        return not tensor.is_leaf
    except (
        RuntimeError
    ):  # a parameter of a stack's member, a view of one that has changed since: of another test
        return False


def with_graphs(others: list[Tensor]) -> list[Tensor]:
    """The tensors that hold a graph, but for others, which other tests have left."""
    gc.collect()
    known = {id(each) for each in others}
    tensors = (each for each in gc.get_objects() if isinstance(each, Tensor) and id(each) not in known)
    return [each for each in tensors if holds_graph(each)]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "coupling", ["decoupled", *(pytest.param(c, marks=pytest.mark.nightly) for c in ("locked", "delayed"))]
)
def test_no_graph_outlives_its_window_and_what_is_kept_does_not_grow(coupling: str) -> None:
    before, sizes = with_graphs([]), []
    simulation = Simulation(chain(coupling))
    for step in range(1, 25):
        simulation.step()
        if step in (12, 24):
            assert not with_graphs(before), step
        if step % 4 == 0:
            sizes.append(len(simulation.channels["a->b"].messages))
        elif step == 6:
            assert with_graphs(before)
    assert len(set(sizes[2:])) == 1


# --- data safety ---------------------------------------------------------------------------------------------


def test_a_checkpoint_replaces_a_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Simulation(chain())
    path = run.save(tmp_path / "saved")
    run.run(2)
    run.save(path)
    assert Simulation.load(path).now == 2
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="already exists and is not a checkpoint"):
        run.save(mine)
    assert (mine / "thesis.txt").read_text() == "x"
    monkeypatch.chdir(tmp_path / "mine")
    (mine / "thesis.txt").unlink()
    with pytest.raises(RunError, match="is the working directory, whose place a checkpoint takes; choose a"):
        run.save(".")
    assert Path.cwd() == mine
