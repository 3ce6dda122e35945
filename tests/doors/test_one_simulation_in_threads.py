"""One simulation that several threads use: a call waits for the step of another thread, and the run goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import antiphon
from antiphon.telemetry import Metric, Recorder


def made() -> antiphon.Simulation:
    goal = {"kind": "classification", "target": "label"}
    agents: Any = {
        "n0": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [8]}},
        "n1": {"network": {"kind": "mlp", "hidden": [8]}, "objective": goal},
    }
    channels: Any = [{"from": "n0", "to": "n1", "size": 6}]
    env: Any = {"id": "antiphon/Digits-v0"}
    training: Any = {"batch": 8, "steps": 50}
    telemetry: Any = {"period": 1}
    return antiphon.Simulation(
        antiphon.Scenario(
            scenario="threads",
            env=env,
            agents=agents,
            channels=channels,
            training=training,
            telemetry=telemetry,
        )
    )


class Within(Recorder):
    """Calls a function within the first step."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.calls = [call]

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        while self.calls:
            self.calls.pop()()


class InThread(threading.Thread):
    """Keeps what a call returns or raises."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.call()
        except Exception as error:  # noqa: BLE001  (it is what the test reads)
            self.outcome = error

    def ended(self) -> Any:
        self.join(60)
        assert not self.is_alive(), "it waits for ever"
        return self.outcome


CALLS: dict[str, Callable[[antiphon.Simulation], object]] = {
    "step": lambda simulation: simulation.step(),
    "set": lambda simulation: simulation.set("*.learning_rate", 0.01),
    "fork": lambda simulation: simulation.fork(),
    "compose": lambda simulation: simulation.compose(),
    "evaluate": lambda simulation: simulation.evaluate(),
    "graph": lambda simulation: simulation.graph,
    "signals": lambda simulation: simulation.signals,
    "messages": lambda simulation: simulation.channels["n0->n1"].messages,
    "module": lambda simulation: simulation.agents["n0"].module,
    "close": lambda simulation: simulation.close(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_waits_for_the_step_of_another_thread(name: str) -> None:
    within, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        within.set()
        go_on.wait(60)

    with made() as simulation:
        simulation.recorders.append(Within(wait))
        stepping = InThread(simulation.step)
        assert within.wait(60)
        calling = InThread(lambda: CALLS[name](simulation))
        calling.join(0.1)
        assert calling.is_alive()
        go_on.set()
        assert stepping.ended()["step"] == 0
        assert not isinstance(calling.ended(), Exception)
        if name != "close":
            simulation.run(3, progress=False)


def test_steps_that_two_threads_take_are_those_of_one() -> None:
    with made() as one, made() as two:
        one.run(40, progress=False)
        threads = [InThread(lambda: [two.step() for _ in range(20)]) for _ in range(2)]
        steps = sorted(info["step"] for thread in threads for info in thread.ended())
        assert steps == [*range(40)]
        for name, agent in one.agents.items():
            for key, value in agent.parameters.items():
                assert torch.equal(value, two.agents[name].parameters[key])


def test_a_call_within_a_step_of_its_own_thread_does_not_wait() -> None:
    with made() as simulation:
        simulation.recorders.append(
            Within(lambda: (simulation.evaluate(), simulation.graph, simulation.fork()))
        )
        simulation.step()
        assert simulation.now == 1


def test_steps_that_wait_for_one_another_are_refused_in_place_of_for_ever() -> None:
    both = threading.Barrier(2)
    with made() as one, made() as two:
        seen: list[object] = []

        def read(other: antiphon.Simulation) -> None:
            both.wait(60)
            try:
                seen.append(other.graph)
            except antiphon.RunError as error:
                seen.append(str(error))

        one.recorders.append(Within(lambda: read(two)))
        two.recorders.append(Within(lambda: read(one)))
        threads = InThread(one.step), InThread(two.step)
        assert [thread.ended()["step"] for thread in threads] == [0, 0]
        refused = [line for line in seen if isinstance(line, str)]
        assert refused
        assert all("a step of another thread, which waits for this one" in line for line in refused)


def test_a_second_thread_runs_a_simulation_only_after_the_first() -> None:
    within, go_on = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        within.set()
        go_on.wait(60)

    with made() as simulation:
        first = InThread(lambda: simulation.run(2, progress=False, callbacks=[wait]))
        assert within.wait(60)
        with pytest.raises(antiphon.RunError, match="another thread runs this simulation"):
            simulation.run(1, progress=False)
        simulation.step()
        go_on.set()
        assert not isinstance(first.ended(), Exception)
        simulation.run(1, progress=False)
        assert simulation.now == 4


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a thread is sent no signal here")
def test_ctrl_c_ends_the_wait_for_the_step_of_another_thread() -> None:
    within, waiting, go_on = threading.Event(), threading.Event(), threading.Event()
    this = threading.get_ident()

    def interrupt() -> None:
        within.set()
        waiting.wait(60)
        signal.pthread_kill(this, signal.SIGINT)
        go_on.wait(60)

    with made() as simulation:
        simulation.recorders.append(Within(interrupt))
        stepping = InThread(simulation.step)
        assert within.wait(60)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  (the signal may come before the wait)
            waiting.set()
            simulation.step()
        go_on.set()
        assert stepping.ended()["step"] == 0
        assert simulation.step()["step"] == 1
        assert InThread(simulation.step).ended()["step"] == 2
