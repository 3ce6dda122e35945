"""Probes (engine.probes.truth): true gradients against finite differences, and without a trace.

A component of a message is moved where the ledger has it, behind all that a link does to it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.records import Record, StepSignals
from antiphon.engine.probes.truth import Probe, true_gradients
from antiphon.engine.simulation import Simulation
from tests.engine.numbers import assert_same_state
from tests.engine.probes.probed import EYE, JUDGE, SMOOTH, chain, corporation, make, timescales
from tests.engine.scenes import CLASSIFY


def run_on(simulation: Simulation, horizon: int, channel: str, row: int, column: int, nudge: float) -> float:
    """The summed losses of a fork's next steps, nothing learned, with one component of a message moved."""
    twin = simulation.fork(stacked=False)
    now = twin.now
    for agent in twin._system.agents.values():
        agent.learner.trainable = []
    ledger = twin._system.channels[channel].ledger
    send = ledger.send

    def moved(step: int, message: Tensor, moment: StepSignals) -> Record:
        record = send(step, message, moment)
        if step == now:
            record.received = record.received.clone()
            record.received[row, column] += nudge
        return record

    ledger.send = moved  # type: ignore[method-assign]
    return sum(
        float(loss) for info in (twin.step() for _ in range(horizon + 1)) for loss in info["losses"].values()
    )


def check_by_differences(simulation: Simulation, horizon: int, *, count: int = 1) -> dict[str, Probe]:
    """Compare some components of every probe with central differences; return the probes."""
    probes = true_gradients(simulation, horizon)
    batch = simulation.scenario.training.batch
    for number, (name, probe) in enumerate(probes.items()):
        for i in range(count):
            row, column = (3 * i + number) % batch, (i + number) % probe.true.shape[1]
            loss = functools.partial(run_on, simulation, horizon, name, row, column)
            slope = (loss(1e-5) - loss(-1e-5)) / 2e-5 * batch
            assert float(probe.true[row, column]) == pytest.approx(slope, abs=1e-8, rel=1e-6), name
    return probes


Scene = tuple[Callable[[], Simulation], int, int]
SCENES: dict[str, Scene] = {
    "chain": (lambda: chain("decoupled", "layer"), 20, 0),
    "cycles": (lambda: corporation("decoupled"), 20, 3),
    # into an episode: what was sent before stands as numbers; channels of one port have a gradient each
    "port": (lambda: corporation("decoupled", port="out"), 17, 2),
    "noise": (lambda: corporation("decoupled", noise=0.3), 17, 2),  # a probe draws what the run draws
    "bits": (
        lambda: make({"a": EYE, "b": JUDGE}, [{"from": "a", "to": "b", "link": {"bits": 2}}]),
        0,
        0,
    ),  # of what arrives
    "frozen": (lambda: make({"a": {**EYE, "learn": False}, "b": JUDGE}, [{"from": "a", "to": "b"}]), 0, 0),
}
"""How it is made, how many steps it takes, and the horizon of its probes."""


@pytest.mark.parametrize("scene", SCENES)
def test_gradients_are_those_of_finite_differences(scene: str) -> None:
    make_one, steps, horizon = SCENES[scene]
    simulation = make_one()
    simulation.run(steps)
    probes = check_by_differences(simulation, horizon)
    assert probes.keys() == simulation.channels.keys()
    assert any(float(probe.true.norm()) > 1e-3 for probe in probes.values())


@pytest.mark.parametrize(
    ("now", "due"), [(30, {"fast", "even"}), (31, {"fast"}), (32, {"fast", "slow", "even"})]
)
def test_clocks_of_all_periods_are_probed_in_the_middle_of_windows(now: int, due: set[str]) -> None:
    simulation = timescales()
    simulation.run(now)
    probes = check_by_differences(simulation, 7)
    assert {name.split("->")[0] for name in probes} == due
    assert float(probes["fast->slow"].true.abs().max()) > 1e-6 if now == 32 else True


def test_links_lose_in_a_probe_what_they_lose_in_the_run() -> None:
    simulation = corporation("decoupled", drop=0.4, hold=5)
    simulation.run(15)
    for name, probe in check_by_differences(simulation, 4).items():
        lost = simulation._system.channels[name].ledger.link.lost(15, 8, "cpu")
        assert lost is not None
        assert not probe.true[lost].any()
        assert bool((probe.true[~lost].norm(dim=1) > 0).any()), name


def test_channels_that_send_at_a_rate_are_probed_when_they_send() -> None:
    simulation = corporation("decoupled", rate=0.5)
    simulation.run(16)
    assert check_by_differences(simulation, 3).keys() == simulation.channels.keys()
    simulation.step()
    assert true_gradients(simulation, 3) == {}


def test_what_no_loss_depends_on_has_a_gradient_of_zero() -> None:
    """Beyond the horizon, and beyond the episode, whose last step is the next one."""
    agents = {"a": {**EYE, "objective": CLASSIFY}, "b": {"network": SMOOTH}, "c": JUDGE}
    simulation = make(agents, [{"from": "a", "to": "b"}, {"from": "b", "to": "c", "link": {"delay": 9}}])
    ending = corporation("decoupled")
    ending.run(19)
    for probes in (true_gradients(simulation, horizon=2), check_by_differences(ending, 5)):
        assert not any(probe.true.any() for probe in probes.values())


@pytest.mark.parametrize(
    "other",
    [
        {"coupling": "decoupled", "agent": {"p_update": 0.05}},
        {"coupling": "unlocked", "input": {"kind": "linear"}, "gradient": {"context": ["label"]}},
        {"coupling": "locked", "feedback": "fa"},
        {"coupling": "locked"},
        {"coupling": "detached"},
        {"coupling": "delayed"},
    ],
    ids=str,
)
def test_how_agents_learn_has_no_say_in_the_truth(other: dict[str, Any]) -> None:
    plain, probes = true_gradients(chain("decoupled")), true_gradients(chain(**other))
    for name, probe in probes.items():
        assert torch.equal(probe.true, plain[name].true)
        if other["coupling"] in ("locked", "detached", "delayed"):  # no prediction
            assert (probe.synthetic, probe.alignment) == (None, {})


def test_over_spoilt_links_and_cycles_too() -> None:
    decoupled, locked = (corporation(coupling, noise=0.3, bits=3) for coupling in ("decoupled", "locked"))
    expected = true_gradients(locked, horizon=3)
    for name, probe in true_gradients(decoupled, horizon=3).items():
        torch.testing.assert_close(probe.true, expected[name].true, atol=1e-10, rtol=0)
    assert float(expected["a->b"].true.norm()) > 1e-3


def test_a_longer_horizon_adds_the_losses_of_later_steps() -> None:
    simulation = timescales()
    simulation.run(32)
    far = [true_gradients(simulation, horizon)["slow->judge"].true for horizon in (0, 1, 2, 3)]
    assert all(not torch.equal(early, late) for early, late in itertools.pairwise(far[:3]))
    torch.testing.assert_close(
        far[3], far[2], atol=1e-12, rtol=0
    )  # by then a newer message has taken its place
    early = true_gradients(simulation, 1)["fast->even"].true  # on its way for three steps
    assert torch.equal(early, torch.zeros_like(early))


def test_what_the_channel_says_is_what_it_injects_at_the_next_step() -> None:
    simulation = chain("decoupled")
    simulation.run(30)
    probes = true_gradients(simulation)
    simulation.step()
    injected = {k: v for update in simulation.learned.updates for k, v in update.injected.items()}
    for name, probe in probes.items():
        assert probe.synthetic is not None
        assert torch.equal(probe.synthetic, injected[name])
        assert {"cosine", "norm_ratio", "r2", "bias2", "variance"} <= probe.alignment.keys()
        ratio = float(probe.synthetic.norm() / probe.true.norm())
        assert probe.alignment["norm_ratio"] == pytest.approx(ratio)
    assert not torch.equal(probes["a->b"].true, torch.zeros_like(probes["a->b"].true))


@pytest.mark.parametrize("coupling", ["decoupled", "delayed", "locked"])
def test_a_probe_changes_no_bit_of_the_run(coupling: str) -> None:
    probed, other = corporation(coupling), corporation(coupling)
    for _ in range(5):
        true_gradients(probed, horizon=5)
        probed.step()
        other.step()
    assert_same_state(probed, other)
