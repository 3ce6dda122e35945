"""What reads, changes or stops a simulation between replayed periods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import Simulation
from antiphon.engine.capture import loop as loop_module
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.capture.recorder import CudaGraphRecorder, NotRecordable
from antiphon.engine.core import mailbox
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.library import resolved
from tests.contracts.twins import differences, facts
from tests.engine.capture.dispatch_recorder import DispatchRecorder


def simulation_of(scenario: Scenario, **how: Any) -> tuple[Simulation, CapturedLoop]:
    loop = CapturedLoop(DispatchRecorder)
    return Simulation(scenario, seed=3, capture=loop, **how), loop


def assert_same(one: Simulation, other: Simulation) -> None:
    """Hold everything that is known of two simulations to each other, to the bit."""
    found = list(differences(facts(other), facts(one), tolerance=0.0))
    assert not found, found[:12]


def ring(**values: Any) -> Scenario:
    return resolved("ring-of-many", {"steps": 300, **values})


def with_telemetry(scenario: Scenario, **fields: Any) -> Scenario:
    every = scenario.telemetry.model_copy(update=fields)
    return scenario.model_copy(update={"telemetry": every})


def test_rows_of_figures_are_those_without() -> None:
    scenario = with_telemetry(ring(), every=25)
    plain = Simulation(scenario, seed=3)
    captured, loop = simulation_of(scenario)
    rows = []
    for simulation in (plain, captured):
        history = simulation.history
        simulation.run(75)
        rows.append(
            [repr(row) for row in history if "seconds" not in repr(row) and "per_second" not in repr(row)]
        )
    assert rows[0] == rows[1]
    assert len(rows[0]) > 60
    assert loop.replayed >= 4


def test_checkpoints_between_replays_are_gone_on_from(tmp_path: Path) -> None:
    scenario = with_telemetry(ring(), every=50)
    unbroken = Simulation(scenario, seed=3)
    unbroken.run(90)
    captured, loop = simulation_of(scenario, logdir=tmp_path / "run", checkpoint_every=20)
    captured.run(70)
    captured.close()
    with Simulation.resume(tmp_path / "run") as resumed:
        assert resumed.now == 70
        resumed.run(20)
    assert loop.replayed >= 4
    assert_same(resumed, unbroken)


def look(simulation: Simulation) -> None:
    with simulation.fork() as twin:
        twin.run(4)
    simulation.probe()
    simulation.evaluate()


BETWEEN: dict[str, Callable[[Simulation], object]] = {
    "forks, probes and evaluation": look,
    "another setting": lambda simulation: simulation.set("*.learning_rate", 0.01),
    "a loaded state": lambda simulation: simulation._load_state_dict(Simulation(ring())._state_dict()),
    "a run that stops in mid-period": lambda simulation: simulation.run(1),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_comes_between_replays_is_as_between_steps(name: str) -> None:
    plain = Simulation(ring(), seed=3)
    captured, loop = simulation_of(ring())
    replayed = 0
    for simulation in (plain, captured):
        simulation.run(31)
        replayed = loop.replayed
        BETWEEN[name](simulation)
        simulation.run(37)
    assert loop.replayed >= replayed + 3
    assert_same(captured, plain)


def test_a_divergence_within_replays_has_its_own_step_and_moves_nothing() -> None:
    scenario = with_telemetry(resolved("hyperplane", {"steps": 300}), every=50)
    plain, (captured, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    plain.backend.check_later()  # as on a GPU
    lines, replayed = [], 0
    for simulation in (plain, captured):
        simulation.run(30)
        replayed = loop.replayed
        first = next(iter(simulation.agents.values()))
        with torch.no_grad():
            next(iter(first.parameters.values())).fill_(torch.inf)
        with pytest.raises(DivergenceError) as error:
            simulation.run(100)
        lines.append(str(error.value))
    assert "at step 30" in lines[0]
    assert lines[0] == lines[1]
    assert loop.replayed > replayed + 10
    assert_same(captured, plain)


def test_what_is_baked_in_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of the step that the recording keeps: the replayed period differs, and no other is replayed."""
    monkeypatch.setattr(mailbox, "stamp_number", lambda step: step)
    scenario = resolved("lossy", {})
    plain, (captured, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    for simulation in (plain, captured):
        simulation.run(60)
    assert loop.obstacle == "a replayed period differs from one that is taken step by step"
    assert_same(captured, plain)


class Failing(DispatchRecorder):
    """A recorder whose work fails after so many operations: one that may not be captured, or exhausted memory."""

    def __init__(self, error: Exception, after: int) -> None:
        super().__init__()
        self._error, self._after = error, after

    def record(self, work: Callable[[], None]) -> None:
        with _FailsAfter(self._error, self._after):
            super().record(work)


class _FailsAfter(TorchDispatchMode):
    def __init__(self, error: Exception, after: int) -> None:
        super().__init__()
        self._error, self._left = error, after

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), settings: Any = None
    ) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return operation(*arguments, **(settings or {}))


FAILURES: dict[str, tuple[Exception, str]] = {
    "refused": (NotRecordable("it waits for the device"), "it waits for the device"),
    "cuda": (
        RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be"),
        "they cannot be recorded: RuntimeError: operation not permitted when stream is capturing",
    ),
    "memory": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "they cannot be recorded: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ),
    "python": (AssertionError(), "they cannot be recorded: AssertionError: AssertionError"),
}


@pytest.mark.parametrize(
    ("name", "failure", "after"),
    [
        ("ring-of-many", "refused", 0),
        ("two-timescales", "cuda", 3),
        ("hyperplane", "memory", 60),
        ("ring-of-many", "python", 150),
    ],
)
def test_a_recording_that_fails_leaves_the_state_of_steps_and_one_warning(
    name: str, failure: str, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    error, reason = FAILURES[failure]
    loop = CapturedLoop(lambda: Failing(error, after))
    plain, captured = (
        Simulation(resolved(name, {"steps": 300}), seed=3, capture=how) for how in (None, loop)
    )
    plain.backend.check_later()  # as on a GPU
    for simulation in (plain, captured):
        simulation.run(70)
    assert loop.obstacle == reason
    assert loop.replayed == 0
    assert caplog.messages == [f"capture: steps are taken one by one: {reason}"]
    assert_same(captured, plain)


@pytest.mark.parametrize("at", [0, 2, 5])
def test_without_memory_for_a_second_copy_of_the_state_steps_are_taken_one_by_one(
    at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each place where a period that is computed both ways needs it: before, and twice after; two periods are."""
    copies, calls = loop_module._copies, iter(range(100))
    monkeypatch.setattr(
        loop_module, "_copies", lambda tensors: None if next(calls) == at else copies(tensors)
    )
    plain, (captured, loop) = Simulation(ring(), seed=3), simulation_of(ring())
    for simulation in (plain, captured):
        simulation.run(40)
    assert loop.obstacle == "there is no memory for a second copy of its state"
    assert len(caplog.messages) == 1
    assert_same(captured, plain)


def test_memory_that_a_device_refuses_for_copies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tensor: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.Tensor, "clone", refuse)
    assert loop_module._copies([torch.zeros(1)]) is None


class BrokenGraph:
    """A CUDA graph's capture, which an operation breaks off; its end then fails too."""

    def __init__(self, graph: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        raise RuntimeError("operation failed due to a previous error during capture")


def test_what_breaks_a_cuda_graph_off_is_the_reason_and_the_stream_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams: list[object] = []
    for name, instead in {
        "synchronize": lambda: None,
        "current_stream": lambda: "before",
        "set_stream": streams.append,
        "CUDAGraph": object,
        "graph": BrokenGraph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, instead)

    def work() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with pytest.raises(
        NotRecordable, match=r"^CUDA refuses to capture it: operation not permitted when stream is capturing$"
    ):
        CudaGraphRecorder().record(work)
    assert streams == ["before"]


def test_every_step_that_somebody_reads_is_taken_by_itself() -> None:
    captured, loop = simulation_of(ring())
    seen = []
    captured.run(40, on_step=lambda simulation: seen.append(simulation.now))
    assert seen == list(range(1, 41))
    assert loop.replayed == 0


def test_capture_is_the_default_on_a_gpu_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert isinstance(captured_loop(gpu, "cohort", None), CapturedLoop)
    assert isinstance(captured_loop(gpu, "cohort", capture=True), CapturedLoop)
    assert captured_loop(gpu, "cohort", capture=False) is None
    for device, backend in ((torch.device("cpu"), "cohort"), (gpu, "reference"), (gpu, "native")):
        assert captured_loop(device, backend, None) is None
    monkeypatch.setenv("ANTIPHON_CAPTURE", "0")
    assert captured_loop(gpu, "cohort", None) is None
    assert isinstance(captured_loop(gpu, "cohort", capture=True), CapturedLoop)
    with pytest.raises(ScenarioError, match="capture: True on cpu"):
        Simulation(ring(), capture=True)
