"""The benchmarks of speed: competitors compute what the backend does, and processes take their turns."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks import agents_scaling, interleaved, roofline, versions

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
    found = agents_scaling.check(5, variant, "cohort", "cpu")
    assert {"plain_loop", "plain_loop_fused"} <= set(found)
    assert ("stacked" in found) == (variant == "base")
    assert max(found.values()) < 1e-10


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_computes_what_the_backend_does() -> None:
    assert agents_scaling.check(8, "base", "cohort", "cpu", sys.executable)["jax"] < 1e-10


def test_an_interpreter_without_jax() -> None:
    assert not agents_scaling.has_jax("false")


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
    missing = worker({"scenario": "hyperplane", "variant": "nothing", "settings": {}})
    assert "nothing" in missing["missing"]


def test_another_version_must_be_a_folder_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["versions.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no folder of antiphon's code"):
        versions.main()
