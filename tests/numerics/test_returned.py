"""What comes back for a message, what its predictor is taught by it and what is injected, by hand (semantics 1 to 9, 17, 42)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.nets.random import seed_for, uniform
from tests.numerics.linear import (
    GOAL,
    LINEAR,
    Numbers,
    assert_close,
    descend,
    leaves,
    said,
    sgd,
    simulation_of,
)
from tests.numerics.recurring import BATCH, STEPS, flags, played
from tests.reference.backend import Chosen, reference

SEED, SG_RATE, SI_RATE = 3, 0.2, 0.05
SOURCE = played(endless=True)


def lost(stamp: int, drop: float) -> Tensor:
    return uniform(seed_for(SEED, "link", "a->b"), stamp, BATCH) < drop


def gradient_of(p: Numbers, step: int, message: Tensor, *others: Tensor) -> Tensor:
    """[B, 2]: B times the gradient of b's loss (the mean over y's two components, and the batch) by the message it reads."""
    error = said(p, "objective", *others, message) - SOURCE.at(step)["y"]
    return (error @ p["objective.weight"][:, -2:]).detach()


def taught(
    p: Numbers, message: Tensor, context: Tensor, returned: Tensor, valid: Tensor, rate: float
) -> Numbers:
    """A linear predictor after its step of gradient descent on the squared error, divided by the batch."""
    error = torch.where(valid.unsqueeze(1), said(p, "last", message, context) - returned, 0.0)
    return descend(p, error.square().sum() / BATCH, rate)


@pytest.mark.parametrize(
    ("coupling", "stands_in", "drop"),
    [("decoupled", True, 0.4), ("decoupled", False, 0.4), ("unlocked", True, 0.4), ("decoupled", True, 1.0)],
)
def test_what_comes_back_for_a_stand_in_is_learned_on_the_real_message(
    coupling: str, stands_in: bool, drop: float
) -> None:
    """A synthetic input learns what arrived by its squared error, and nothing of the receiver's loss reaches it."""
    model = {"context": ["x"], "optimiser": sgd(SI_RATE)} if stands_in else None
    gradient = {"kind": "linear", "context": ["hint"], "optimiser": sgd(SG_RATE)}
    channel = {"from": "a", "to": "b", "coupling": coupling, "input": model, "gradient": gradient}
    agents = {"a": {"observes": ["x"]}, "b": {"observes": ["x"], "objective": GOAL}}
    with simulation_of(agents, [{**channel, "link": {"drop": drop}}], SOURCE) as simulation:
        handle = simulation.channels["a->b"]
        for step in range(12):
            a, b = (leaves(simulation.agents[name]) for name in "ab")
            sg = leaves(handle.synthetic_gradient)
            si = leaves(handle.synthetic_input) if stands_in else {}
            x, hint = SOURCE.at(step)["x"], SOURCE.at(step)["hint"]
            message, missing = said(a, "to_b", x).detach(), lost(step, drop)
            away = (missing | (coupling == "unlocked")).unsqueeze(1)
            predicted = said(si, "last", x).detach() if stands_in else torch.zeros_like(message)
            simulation.step()
            stored = handle.messages[step]
            counted = torch.ones_like(missing) if stands_in else ~missing
            assert torch.equal(stored.counted, counted)
            returned = gradient_of(b, step, torch.where(away, predicted, message), x)
            returned = torch.where(counted.unsqueeze(1), returned, 0.0)
            assert stored.gradient is not None
            torch.testing.assert_close(stored.gradient, returned, atol=1e-13, rtol=0)
            injected = said(sg, "last", message, hint).detach()
            assert_close(simulation.agents["a"], descend(a, (said(a, "to_b", x) * injected).sum() / BATCH))
            assert_close(handle.synthetic_gradient, taught(sg, message, hint, returned, counted, SG_RATE))
            if stands_in:
                error = torch.where(missing.unsqueeze(1), 0.0, said(si, "last", x) - message)
                assert_close(handle.synthetic_input, descend(si, error.square().sum() / BATCH, SI_RATE))


@pytest.mark.cases(1)
@pytest.mark.parametrize(("delay", "lag"), [(0, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize("drop", [0.0, 0.5])
@pytest.mark.parametrize("ends", [{"endless": True}, {"truncated": flags(1, 2)}])
def test_a_predictor_is_told_the_newest_gradient_that_had_come_back(
    ends: dict[str, Any], drop: float, delay: int, lag: int
) -> None:
    """Sent at s over delay d: used at s + d, back at s + 2d, and known when the sender ticks after that, in its episode.

    Where the link lost a message, the one before is still the newest.
    """
    source = played(**ends)
    gradient = {"kind": "linear", "context": ["returned"], "optimiser": sgd(SG_RATE)}
    channel = {"from": "a", "to": "b", "gradient": gradient, "link": {"delay": delay, "drop": drop}}
    agents = {"a": {"observes": ["x"]}, "b": {"objective": GOAL}}
    back: dict[int, tuple[Tensor, Tensor]] = {}
    kept: dict[int, Tensor] = {}
    moved = 0

    def newest(stamp: int) -> Tensor:
        """[B, 2], environment by environment."""
        told = torch.zeros(BATCH, 2, dtype=torch.float64)
        for lane in range(BATCH):
            known = [s for s in back if s <= stamp - lag and back[s][1][lane]]
            if known and not any(
                bool(torch.logical_or(*source.ends(t))[lane]) for t in range(known[-1], stamp)
            ):
                told[lane] = back[known[-1]][0][lane]
        return told

    with simulation_of(agents, [channel], source) as simulation:
        handle = simulation.channels["a->b"]
        for step in range(STEPS):
            sg = leaves(handle.synthetic_gradient)
            simulation.step()
            kept |= {stamp: m.value.clone() for stamp, m in handle.messages.items()}
            done = {s: m for s, m in handle.messages.items() if m.gradient is not None}
            back |= {s: (m.gradient, m.counted) for s, m in done.items() if m.gradient is not None}
            stamp = step - 2 * delay
            if stamp in done:
                returned, counted = back[stamp]
                sg = taught(sg, kept[stamp], newest(stamp), returned, counted, SG_RATE)
                moved += bool(newest(stamp).any())
            assert_close(handle.synthetic_gradient, sg)
    assert moved > STEPS - 14


def test_the_loss_of_a_window_is_told_once_for_a_message_that_is_read_at_each_of_its_ticks() -> None:
    agents = {
        "a": {"observes": ["x"], "clock": {"period": 3}},
        "b": {"clock": {"unroll": 3}, "objective": GOAL},
    }
    gradient = {"kind": "sobolev", "context": ["hint"]}
    with simulation_of(agents, [{"from": "a", "to": "b", "gradient": gradient}], SOURCE) as simulation:
        b = leaves(simulation.agents["b"])
        simulation.run(3)
        stored = simulation.channels["a->b"].messages[0]
        losses = [(said(b, "objective", stored.value) - SOURCE.at(t)["y"]).square().mean(1) for t in range(3)]
        assert stored.loss is not None
        torch.testing.assert_close(stored.loss, torch.stack(losses).sum(0).detach(), atol=1e-13, rtol=0)
        summands = [gradient_of(b, t, stored.value) for t in range(3)]
        assert stored.gradient is not None
        torch.testing.assert_close(stored.gradient, torch.stack(summands).sum(0), atol=1e-13, rtol=0)


def test_who_has_no_loss_of_its_own_returns_what_its_critic_expects_times_the_discount() -> None:
    critic = {"kind": "critic", "hidden": [4], "norm": "none", "context": [], "discount": 0.5}
    channels = [{"from": s, "to": r, "gradient": {**critic, "optimiser": sgd(0.01)}} for s, r in ("ab", "bc")]
    agents = {"a": {"observes": ["x"]}, "b": {}, "c": {"objective": GOAL}}
    with simulation_of(agents, channels, SOURCE) as simulation:
        simulation.run(9)
        v = leaves(simulation.channels["b->c"].synthetic_gradient)
        simulation.step()
        far, near = (simulation.channels[name].messages[9] for name in ("a->b", "b->c"))
        hidden = torch.relu(said(v, "0", near.value))
        value = said(v, "last", hidden)[:, 0].detach()
        assert value.abs().max() > 1e-3
        assert far.loss is not None
        torch.testing.assert_close(far.loss, 0.5 * value, atol=1e-13, rtol=0)


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_noise_and_bits_let_the_gradient_straight_through(coupling: str) -> None:
    """It is taken at the message as received, and belongs to the message as sent."""
    link = {"noise": 0.3, "bits": 3}
    agents = {"a": {"observes": ["x"]}, "b": {"network": LINEAR, "objective": GOAL}}
    channel = {
        "from": "a",
        "to": "b",
        "coupling": coupling,
        "link": link,
        "gradient": {"kind": "linear", "context": ["hint"]},
    }
    # over a locked channel nothing is kept of what was received: a decoupled twin, which carries the same, shows it
    shown = {"from": "a", "to": "b", "link": link, "gradient": {"kind": "linear", "context": ["hint"]}}
    with (
        simulation_of(agents, [shown], SOURCE) as twin,
        simulation_of(agents, [channel], SOURCE) as simulation,
    ):
        a, b = (leaves(simulation.agents[name]) for name in "ab")
        twin.step()
        simulation.step()
        stored = twin.channels["a->b"].messages[0]
        assert (stored.received - stored.value).norm() > 0.5
        returned = gradient_of(b, 0, stored.received)
        if coupling == "decoupled":
            assert stored.gradient is not None
            torch.testing.assert_close(stored.gradient, returned, atol=1e-13, rtol=0)
        else:
            sent = said(a, "to_b", SOURCE.at(0)["x"])
            assert_close(simulation.agents["a"], descend(a, (sent * returned).sum() / BATCH))
        loss = (said(b, "objective", stored.received) - SOURCE.at(0)["y"]).square().mean(1).sum() / BATCH
        assert_close(simulation.agents["b"], descend(b, loss))


@pytest.mark.cases(1)
@pytest.mark.parametrize("ends", [{"endless": True}, {"truncated": flags(0, 3)}])
@pytest.mark.parametrize(("delay", "periods"), [(0, (1, 1)), (1, (1, 1)), (3, (1, 2)), (1, (3, 1))])
def test_a_predictor_is_told_the_states_that_had_crossed_the_link(
    delay: int, periods: tuple[int, int], ends: dict[str, Any]
) -> None:
    """Of the sender its own, of the receiver the newest that had arrived, of no earlier episode (rule 25)."""
    source = played(**ends)
    gru = {"kind": "gru", "size": 3}
    agents: dict[str, Any] = {"a": {"observes": ["x"]}, "b": {"objective": GOAL}}
    for name, period in zip("ab", periods, strict=True):
        agents[name] |= {"network": gru, "clock": {"period": period, "phase": -1}}
    gradient = {"kind": "linear", "context": ["from.state", "to.state"], "optimiser": sgd(SG_RATE)}
    channel = {"from": "a", "to": "b", "gradient": gradient, "link": {"delay": delay}}
    states: dict[str, dict[int, Tensor]] = {"a": {}, "b": {}}
    sent: dict[int, Tensor] = {}
    with simulation_of(agents, [channel], source) as simulation:
        handle, seen = simulation.channels["a->b"], 0
        for step in range(STEPS):
            sg = leaves(handle.synthetic_gradient)
            simulation.step()
            for name, own in states.items():
                own |= {
                    s: m.value.clone()
                    for s, m in simulation.channels[f"{name}->{name}:state"].messages.items()
                }
            sent |= {s: m.value.clone() for s, m in handle.messages.items()}
            for stamp, message in handle.messages.items():
                if message.gradient is None or message.finished != step - delay:
                    continue
                known = [t for t in states["b"] if t <= stamp - delay and (delay or t < stamp)]
                far = states["b"][max(known)].clone() if known else torch.zeros(BATCH, 3, dtype=torch.float64)
                for gone in range(max(known), stamp) if known else ():
                    far[torch.logical_or(*source.ends(gone))] = 0
                context = torch.cat([states["a"][stamp], far], 1)
                sg = taught(sg, sent[stamp], context, message.gradient, message.counted, SG_RATE)
                seen += 1
            assert_close(handle.synthetic_gradient, sg)
    assert seen >= 8


# --- injections ------------------------------------------------------------------------------------------


ANOTHER = 3


# --- symbols ---------------------------------------------------------------------------------------------------


def straight_through(p: Numbers, x: Tensor, step: int) -> Tensor:
    """[B, 6]: two symbols of three, one-hot, with the gradient of the relaxed ones at temperature 0.5."""
    logits = said(p, "to_b", x).view(BATCH, 2, 3)
    noise = -torch.log(-torch.log(uniform(seed_for(ANOTHER, "message", "a", "to_b"), step, BATCH * 6)))
    noisy = logits + noise.view(BATCH, 2, 3)
    soft = torch.softmax(noisy / 0.5, -1)
    return (soft + (F.one_hot(noisy.argmax(-1), 3).double() - soft).detach()).flatten(1)


@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
def test_symbols_are_one_hot_and_their_gradient_passes_straight_through(
    coupling: str, backend: Chosen
) -> None:
    """Also where a window waits: when it is replayed, the same symbols are sent with the present logits."""
    channel = {
        "from": "a",
        "to": "b",
        "coupling": coupling,
        "sample": {"kind": "gumbel", "vocabulary": 3, "size": 2, "temperature": 0.5},
        "gradient": {"kind": "linear", "context": ["hint"], "optimiser": sgd(0.1)},
    }
    agents = {"a": {"observes": ["x"]}, "b": {"objective": GOAL}}
    with simulation_of(agents, [channel], SOURCE, backend) as simulation:
        waiting: tuple[Tensor, int] | None = None
        for step in range(6):
            a, b = (leaves(simulation.agents[name]) for name in "ab")
            message = straight_through(a, SOURCE.at(step)["x"], step)
            loss = (said(b, "objective", message) - SOURCE.at(step)["y"]).square().mean(1).sum() / BATCH
            (returned,) = torch.autograd.grad(loss, message, retain_graph=True)
            if coupling == "decoupled":
                sg = leaves(simulation.channels["a->b"].synthetic_gradient)
                put = said(sg, "last", message, SOURCE.at(step)["hint"]).detach() / BATCH
                a = descend(a, (message * put).sum())
            elif coupling == "locked":
                a = descend(a, loss)
            elif waiting is not None:
                put, stamp = waiting
                a = descend(a, (straight_through(a, SOURCE.at(stamp)["x"], stamp) * put).sum())
            waiting = returned, step
            simulation.step()
            assert_close(simulation.agents["a"], a, 1e-11)
            if coupling != "locked":
                value = simulation.channels["a->b"].messages[step].value
                torch.testing.assert_close(value, message.detach(), atol=1e-12, rtol=0)
