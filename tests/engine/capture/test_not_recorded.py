"""Recordings that fail, or are not what is computed step by step (engine/capture/loop.py, engine/capture/kernel_recorder.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import Scenario, Simulation
from antiphon.comms import Coupling, CreditedMessage
from antiphon.engine.capture import loop as loop_module
from antiphon.engine.capture.conditions import obstacle_of
from antiphon.engine.capture.kernel_recorder import CudaGraphRecorder, NotRecordable
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.feature_table import check_later
from antiphon.engine.heart import held_messages
from antiphon.engine.heart.clock import EpisodeWindows
from tests.contracts.library import resolved
from tests.engine.capture.dispatch_recorder import DispatchRecorder
from tests.engine.capture.test_captured_loop import assert_same, ring, simulation_of
from tests.engine.numbers import one_line
from tests.kit.commands import Commands
from tests.reference.backend import reference


@pytest.mark.long
def test_what_is_baked_in_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of the step that the recording keeps: the replayed period differs, and no other is replayed."""
    monkeypatch.setattr(held_messages, "stamp_number", lambda step: step)
    scenario = resolved("lossy", {})
    plain, (captured, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    for simulation in (plain, captured):
        simulation.run(60)
    assert loop.obstacle == "a replayed period differs from one that is computed step by step"
    assert_same(captured, plain)


class Late(Coupling):
    """Synthetic gradients from a step on, as a coupling with a schedule has them."""

    predicts = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        return None if step < 40 else message.applied_prediction


def test_the_step_at_which_an_own_coupling_changes_is_not_recorded() -> None:
    channel = {"from": "a", "to": "b", "size": 4, "coupling": Late, "gradient": {"context": ["label"]}}
    goal = {"kind": "classification", "target": "label"}
    agents = {"a": {"observes": ["image"]}, "b": {"objective": goal}}
    document: dict[str, Any] = {"scenario": "late", "env": {"id": "antiphon/Digits-v0"}, "agents": agents}
    scenario = Scenario.model_validate({**document, "channels": [channel], "training": {"batch": 4}})
    loop = CapturedLoop(DispatchRecorder)
    plain, captured = (Simulation(scenario, seed=3, capture=how) for how in (None, loop))
    for simulation in (plain, captured):
        simulation.run(60)
    assert_same(captured, plain)
    assert "its coupling 'Late' is your own" in str(loop.obstacle)


class Grown(nn.Linear):
    """A synthetic gradient, or input, that is another one after so many calls."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x) * (1 if self.calls < 30 else 3)


class Graver:
    """A loss that weighs more after so many calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(output, target, reduction="none") * (1 if self.calls < 30 else 3)


def _sum(messages: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    return messages.sum(1)


LABEL: dict[str, Any] = {"kind": "classification", "target": "label"}
OWN_LABEL: dict[str, Any] = {"kind": Graver, "target": "label"}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"gradient": {"kind": Grown, "context": ["label"]}},
            "channels[0].gradient: 'Grown' is your own, and may",
        ),
        ({"input": {"kind": Grown, "context": ["image"]}}, "channels[0].input: 'Grown' is your own, and may"),
        ({"objective": OWN_LABEL}, "agents.b.objective: 'Graver' is your own, and may count its calls"),
        ({"objective": [LABEL, OWN_LABEL]}, "agents.b.objective[1]: 'Graver' is your own, and may count"),
        (
            {"fan_in": _sum},
            "agents.b.fan_in: '_sum' is your own, and may count its calls or depend on the step",
        ),
    ],
)
def test_steps_with_code_of_ones_own_that_a_replay_does_not_run_are_not_recorded(
    keys: dict[str, Any], line: str
) -> None:
    agent = {"objective": LABEL} | {key: each for key, each in keys.items() if key in ("objective", "fan_in")}
    channel = {"from": "a", "to": "b", "size": 4, "gradient": {"context": ["label"]}}
    channel |= {key: each for key, each in keys.items() if key in ("gradient", "input")}
    document: dict[str, Any] = {"scenario": "own", "env": {"id": "antiphon/Digits-v0"}, "channels": [channel]}
    document |= {"agents": {"a": {"observes": ["image"]}, "b": agent}, "training": {"batch": 4}}
    loop = CapturedLoop(DispatchRecorder)
    plain, captured = (
        Simulation(Scenario.model_validate(document), seed=3, capture=how) for how in (None, loop)
    )
    for simulation in (plain, captured):
        simulation.run(40)
    assert_same(captured, plain)
    assert str(loop.obstacle).startswith(line)


def test_windows_that_repeat_after_no_known_number_of_steps_are_not_recorded() -> None:
    scenario = ring()
    with Simulation(scenario, seed=3) as simulation:
        system = simulation.running.backend.system
        assert obstacle_of(system, scenario) is None
        system.groups[0].grid = EpisodeWindows(4)
        assert "after which windows of 'n0 and" in str(obstacle_of(system, scenario))


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


NO_CAPTURE = "operation not permitted when stream is capturing"
NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("name", "error", "after", "reason"),
    [
        ("ring-of-many", NotRecordable("it waits for the device"), 0, "it waits for the device"),
        (
            "two-timescales",
            RuntimeError(f"{NO_CAPTURE}\nCUDA kernel errors might be"),
            3,
            f"they cannot be recorded: RuntimeError: {NO_CAPTURE}",
        ),
        (
            "hyperplane",
            torch.OutOfMemoryError(NO_MEMORY),
            60,
            f"they cannot be recorded: OutOfMemoryError: {NO_MEMORY}",
        ),
        ("ring-of-many", AssertionError(), 150, "they cannot be recorded: AssertionError: AssertionError"),
    ],
)
def test_a_recording_that_fails_leaves_the_state_of_steps_and_one_warning(
    name: str, error: Exception, after: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = CapturedLoop(lambda: Failing(error, after))
    plain, captured = (
        Simulation(resolved(name, {"steps": 300}), seed=3, capture=how) for how in (None, loop)
    )
    check_later(plain.running.backend)  # as on a GPU
    for simulation in (plain, captured):
        simulation.run(40)
    assert loop.obstacle == reason
    assert loop.replayed == 0
    assert caplog.messages == [f"capture: steps are taken one by one: {reason}"]
    assert_same(captured, plain)


@pytest.mark.long
@pytest.mark.parametrize("at", [0, 5])
def test_without_memory_for_a_second_copy_of_the_state_steps_are_taken_one_by_one(
    at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each place where a period that is computed both ways needs it, the first and the last: before, and after the second period."""
    copies, calls = loop_module._copies, iter(range(100))
    monkeypatch.setattr(
        loop_module, "_copies", lambda tensors: None if next(calls) == at else copies(tensors)
    )
    plain, (captured, loop) = Simulation(ring(), seed=3), simulation_of(ring())
    for simulation in (plain, captured):
        simulation.run(40)
    assert loop.obstacle == "there is not enough memory for a second copy of its state"
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
        raise RuntimeError(f"{NO_CAPTURE}\nmore")

    with pytest.raises(NotRecordable, match=f"^CUDA refuses to capture it: {NO_CAPTURE}$"):
        CudaGraphRecorder().record(work)
    assert streams == ["before"]


def test_capture_is_asked_for_and_refused_where_it_cannot_be() -> None:
    gpu = torch.device("cuda")
    assert isinstance(captured_loop(gpu, "cohort", capture=True), CapturedLoop)
    for device, backend in ((torch.device("cpu"), "cohort"), (gpu, reference), (gpu, "native")):
        with one_line("capture: True on .* recorded steps are CUDA graphs of the cohort backend"):
            captured_loop(device, backend, capture=True)
    with one_line("capture: the steps of parts are not captured; leave out one of them"):
        captured_loop(gpu, "cohort", capture=True, parts=True)


@pytest.mark.parametrize("words", ["", "--parts 2", "--seeds 2", "--cluster two-cores"])
def test_the_command_refuses_what_is_not_captured(words: str, here: Path, cli: Commands) -> None:
    line = cli.refused("run digits-mlp --set delay=1 --capture --steps 2 --logdir .", words)
    assert "capture: " in line
    assert list(here.iterdir()) == []
