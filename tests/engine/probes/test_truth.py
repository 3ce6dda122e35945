"""Probes: true gradients against the locked coupling, against finite differences, and without a trace."""

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


def locked_gradients(simulation: Simulation, horizon: int) -> dict[str, Tensor]:
    """Plain autograd over the window of a locked group whose messages are all alive: B dL/dmessage."""
    now = simulation.now
    twin = simulation.fork(stacked=False)
    system = twin._system
    (unit,) = system.groups
    losses: list[Tensor] = []
    for step in range(now, now + horizon + 1):
        twin.backend.tick(step, twin.world.step_signals)
        last = (step + 1) % system.hold == 0
        for tick in unit.tape.ticks:
            for part in tick.parts:
                if tick.step == step and "objective" in part.ports and last:
                    label = twin.world.step_signals.signals["label"]
                    losses.append(-part.ports["objective"].log_softmax(1)[range(len(label)), label].sum())
        twin.world.advance()
    messages = {name: unit.tape.graph_outputs[name, now] for name in system.channels}
    found = torch.autograd.grad(losses, list(messages.values()), allow_unused=True)
    return {
        n: torch.zeros_like(m) if g is None else g for (n, m), g in zip(messages.items(), found, strict=True)
    }


def both_couplings(steps: int, make_one: Callable[[str], Simulation]) -> tuple[Simulation, Simulation]:
    """A decoupled and a locked simulation after some steps, of the same parameters."""
    decoupled, locked = make_one("decoupled"), make_one("locked")
    for simulation in (decoupled, locked):
        simulation.run(steps)
    for name, agent in decoupled._system.agents.items():
        locked._system.agents[name].learner.load_state_dict(agent.learner.state_dict())
    return decoupled, locked


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


def check_by_differences(simulation: Simulation, horizon: int, *, count: int = 2) -> dict[str, Probe]:
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


def test_a_zero_delay_chain_has_the_gradients_of_the_locked_coupling() -> None:
    decoupled, locked = both_couplings(20, chain)
    probes = true_gradients(decoupled)
    expected = locked_gradients(locked, 0)
    assert probes.keys() == expected.keys() == {"a->b", "b->c", "c->d"}
    for name, probe in probes.items():
        assert float(expected[name].norm()) > 1e-3
        torch.testing.assert_close(probe.true, expected[name], atol=1e-10, rtol=0)


def test_a_cyclic_corporation_has_the_gradients_of_the_locked_coupling_over_an_episode() -> None:
    decoupled, locked = both_couplings(20, corporation)
    probes = true_gradients(decoupled, horizon=3)
    expected = locked_gradients(locked, 3)
    again = true_gradients(locked, horizon=3)
    reaching = {name for name in probes if float(expected[name].norm()) > 1e-6}
    assert reaching == {"a->b", "b->a", "b->c", "c->e", "d->a", "e->c"}  # from d no readout is two hops away
    for name, probe in probes.items():
        torch.testing.assert_close(probe.true, expected[name], atol=1e-10, rtol=0)
        torch.testing.assert_close(again[name].true, expected[name], atol=1e-10, rtol=0)


def test_channels_of_one_port_have_a_gradient_each_and_together_the_ports() -> None:
    decoupled, locked = both_couplings(8, lambda coupling: corporation(coupling, port="out"))
    probes = true_gradients(decoupled, horizon=3)
    expected = locked_gradients(locked, 3)  # of the port's message, for every channel that reads it
    for sender, receivers in {"b": "ac", "c": "de", "e": "cd"}.items():
        first, second = (probes[f"{sender}->{receiver}"].true for receiver in receivers)
        assert not torch.equal(first, second)
        torch.testing.assert_close(first + second, expected[f"{sender}->{receivers[0]}"], atol=1e-10, rtol=0)


@pytest.mark.parametrize("link", [{"port": "out"}, {"noise": 0.3}], ids=["port", "noise"])
def test_gradients_of_a_corporation_are_those_of_finite_differences(link: dict[str, Any]) -> None:
    """A probe draws the noise that the run draws."""
    simulation = corporation("decoupled", **link)
    simulation.run(17)  # into an episode: what was sent before stands as numbers
    probes = check_by_differences(simulation, 2, count=1)
    assert any(float(probe.true.abs().max()) > 1e-3 for probe in probes.values())


def test_frozen_agents_can_be_probed_and_what_no_loss_depends_on_has_a_gradient_of_zero() -> None:
    agents = {"a": {**EYE, "learn": False}, "b": {**JUDGE, "learn": False}}
    simulation = make(agents, [{"from": "a", "to": "b"}])
    assert float(check_by_differences(simulation, 0)["a->b"].true.norm()) > 1e-3
    agents = {"a": {**EYE, "objective": CLASSIFY}, "b": {"network": SMOOTH}, "c": JUDGE}
    simulation = make(agents, [{"from": "a", "to": "b"}, {"from": "b", "to": "c", "link": {"delay": 9}}])
    probes = true_gradients(simulation, horizon=2)
    assert not any(probe.true.any() for probe in probes.values())


def test_gradients_end_where_the_episode_does() -> None:
    simulation = corporation("decoupled")
    simulation.run(19)  # the next step is an episode's last: nothing sent then is read before the cut
    for probe in check_by_differences(simulation, 5, count=1).values():
        assert torch.equal(probe.true, torch.zeros_like(probe.true))


def test_links_lose_in_a_probe_what_they_lose_in_the_run() -> None:
    simulation = corporation("decoupled", drop=0.4, hold=5)
    simulation.run(15)
    probes = check_by_differences(simulation, 4, count=1)
    for name, probe in probes.items():
        lost = simulation._system.channels[name].ledger.link.lost(15, 8, "cpu")
        assert lost is not None
        assert torch.equal(probe.true[lost], torch.zeros_like(probe.true[lost]))
        assert bool((probe.true[~lost].norm(dim=1) > 0).any()), name


def test_the_gradient_of_a_message_in_few_bits_is_that_of_what_arrives() -> None:
    agents = {"a": EYE, "b": JUDGE}
    bits = make(agents, [{"from": "a", "to": "b", "link": {"bits": 2}}])
    probe = check_by_differences(bits, 0)["a->b"]
    clean = make(agents, [{"from": "a", "to": "b"}])
    assert not torch.allclose(true_gradients(clean)["a->b"].true, probe.true, atol=1e-6)


def test_spoilt_links_have_the_gradients_of_the_locked_coupling() -> None:
    decoupled, locked = (corporation(coupling, noise=0.3, bits=3) for coupling in ("decoupled", "locked"))
    expected = locked_gradients(locked, 3)
    for name, probe in true_gradients(decoupled, horizon=3).items():
        torch.testing.assert_close(probe.true, expected[name], atol=1e-10, rtol=0)
    assert float(expected["a->b"].norm()) > 1e-3


def test_channels_that_send_at_a_rate_are_probed_when_they_send() -> None:
    simulation = corporation("decoupled", rate=0.5)
    simulation.run(16)
    assert check_by_differences(simulation, 3, count=1).keys() == simulation._system.channels.keys()
    simulation.step()
    assert true_gradients(simulation, 3) == {}


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


@pytest.mark.parametrize(
    ("now", "due"), [(30, {"fast", "even"}), (31, {"fast"}), (32, {"fast", "slow", "even"})]
)
def test_clocks_of_all_periods_are_probed_in_the_middle_of_windows(now: int, due: set[str]) -> None:
    simulation = timescales()
    simulation.run(now)
    probes = check_by_differences(simulation, 7)
    assert {name.split("->")[0] for name in probes} == due
    assert float(probes["fast->slow"].true.abs().max()) > 1e-6 if now == 32 else True


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
