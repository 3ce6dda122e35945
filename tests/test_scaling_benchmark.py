"""The benchmarks of speed: competitors compute what the backend does, and processes take their turns."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks import agents_scaling, gpu, interleaved, roofline, versions

SERVED = """
import sys
sys.path.insert(0, {folder!r})
from served import serve
serve(lambda request: {{"seconds": 0.25 * request["steps"]}} if request["steps"] < 9 else exit(3))
"""


@pytest.fixture
def served(tmp_path: Path) -> agents_scaling.Served:
    script = tmp_path / "worker.py"
    script.write_text(SERVED.format(folder=str(Path(interleaved.__file__).parent)), encoding="utf-8")
    return agents_scaling.Served([sys.executable, str(script)])


def test_a_process_tells_its_own_time(served: agents_scaling.Served) -> None:
    with closing(served):
        times = interleaved.timed({"it": served, "none": lambda: None}, 3, seconds=0, multiple=2)
    assert times["it"].tolist() == [0.25] * 3
    assert times["none"].max() < 0.25


def test_a_process_that_ends_is_an_error(served: agents_scaling.Served) -> None:
    with closing(served), pytest.raises(RuntimeError, match=r"ended with code 3"):
        served.turn(9)


@pytest.mark.parametrize("variant", agents_scaling.VARIANTS)
def test_programs_by_hand_compute_what_the_backend_does(variant: str) -> None:
    found = agents_scaling.check(5, variant, "cohort", "cpu", ["reference"], sys.executable)
    assert {"reference", "plain_loop", "plain_loop_fused"} <= set(found)
    assert ("stacked" in found) == (variant == "base")
    assert max(found.values()) < 1e-10


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_computes_what_the_backend_does() -> None:
    assert agents_scaling.check(8, "base", "cohort", "cpu", ["jax"], sys.executable)["jax"] < 1e-10


def test_an_interpreter_without_jax() -> None:
    assert not agents_scaling.has_jax("false", "cpu")


def test_the_buffers_of_the_stacked_program_are_back_in_place_after_a_rotation() -> None:
    weights = agents_scaling.parameters(agents_scaling.simulate(agents_scaling.ring(3), "cohort"))
    program = agents_scaling.RingStacked(weights, agents_scaling.BATCH, 3, written=True)
    batch = agents_scaling.fed_batches("cpu")[0]
    places = []
    for _ in range(agents_scaling.ROTATION + 1):
        kept = (program.older, program.old, program.new, program.back, program.returned)
        places.append([each.data_ptr() for each in kept])
        program.step(*batch)
    assert places.index(places[-1]) == 0
    assert places[-1] not in places[1:-1]


def test_figures_of_a_device_and_what_is_demanded_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_TURN", 0.0)
    found = gpu.measure("cpu", (8,), ("hyperplane",), "false", rounds=2)
    assert max(found["deviation"].values()) < 1e-10
    assert [ring["agents"] for ring in found["rings"]] == [8]
    assert found["rings"][0]["ratio_plain_loop_fused"] > 0
    assert found["library"][0]["ratio_cpu"] > 0
    assert found["left_out"].keys() == {"jax"}
    assert all(
        demand["met"] is None for demand in found["demands"]
    )  # of 16 and 1,024 agents, of a corporation


def test_demands_on_a_gpu_are_met_or_missed() -> None:
    many = {
        "ms_per_step": 0.9,
        "ratio_stacked_captured": 0.5,
        "ratio_plain_loop_fused": 400.0,
        "share_of_bandwidth": 0.4,
    }
    rings = {16: {"ms_per_step": 0.2}, 1024: many}
    library = {"corporation": {"ratio_cpu": 3.0}, "digits-mlp": {"ratio_eager": 5.0}}
    found = {each["figure"]: each for each in gpu.demands(rings, library)}
    met = {figure for figure, each in found.items() if each["met"]}
    assert found.keys() - met == {"ring of 1,024 / stacked by hand, captured", "ring of 1,024 / ring of 16"}
    assert found["ring of 1,024 / ring of 16"]["value"] == 4.5


def test_the_limit_is_the_sum_of_its_terms_and_grows_with_the_agents() -> None:
    times = {name: np.array([1e-3, 1e-3]) for name in roofline.rates("cpu")}
    few, terms = roofline.limit(times, 10)
    many, _ = roofline.limit(times, 20)
    assert few.shape == (2,)
    assert few[0] * 1e3 == pytest.approx(sum(term["limit_ms"] for term in terms), abs=1e-4 * len(terms))
    assert many / few == pytest.approx([2, 2])
    assert (roofline.through_memory(times, 10) < few).all()


def test_a_version_answers_for_a_scenario_and_for_one_it_lacks() -> None:
    worker = versions.Worker()
    found = worker({"scenario": "hyperplane", "variant": None, "settings": {}})
    assert found["unit"] >= 1
    assert worker({"steps": found["unit"]})["seconds"] > 0
    calls = [worker({"counted": steps})["calls"] for steps in (8, 8, 16)]
    assert calls[0] == calls[1]
    assert calls[2] == pytest.approx(2 * calls[0], rel=0.01)
    missing = worker({"scenario": "hyperplane", "variant": "nothing", "settings": {}})
    assert "nothing" in missing["missing"]


def test_another_version_must_be_a_folder_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["versions.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no folder of antiphon's code"):
        versions.main()
