"""`delayed` by hand: a window is replayed with present parameters when its gradients are back (semantics 27b)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from tests.numerics.linear import GOAL, assert_close, descend, leaves, normed, said, simulation_of
from tests.numerics.recurring import BATCH, STEPS, flags, played

SOURCE = played(endless=True)
DELAYED = {"coupling": "delayed"}


@pytest.mark.parametrize("delay", [0, 2])
def test_a_chain_is_the_loop_by_hand(delay: int) -> None:
    """A gradient that is back at step t is learned from at t + 1 or, if its way back is longer, when it arrives."""
    layer = {"kind": "mlp", "hidden": [5], "norm": "batch", "activation": "tanh"}
    agents = {"a": {"observes": ["x"], "network": layer}, "b": {"network": layer}, "c": {"objective": GOAL}}
    channels = [{"from": s, "to": r, **DELAYED, "link": {"delay": delay}} for s, r in ("ab", "bc")]
    nothing, wait = torch.zeros(BATCH, 2, dtype=torch.float64), max(delay, 1)
    with simulation_of(agents, channels, SOURCE) as simulation:
        a, b, c = (leaves(simulation.agents[name]) for name in "abc")
        statistics = {
            name: {k: v.clone() for k, v in simulation.agents[name].buffers.items()} for name in "ab"
        }
        from_a: list[Tensor] = []
        from_b: list[Tensor] = []
        taken: dict[int, Tensor] = {}
        to_b: dict[int, tuple[int, Tensor]] = {}
        to_a: dict[int, tuple[int, Tensor]] = {}
        for t in range(14):
            from_a.append(normed(a, statistics["a"], SOURCE.at(t)["x"], "to_b").detach())
            if t >= delay:
                taken[t] = from_a[t - delay]
            from_b.append(normed(b, statistics["b"], taken.get(t, nothing), "to_c").detach())
            leaf = (from_b[t - delay] if t >= delay else nothing).clone().requires_grad_()
            loss = (said(c, "objective", leaf) - SOURCE.at(t)["y"]).square().mean(1).sum() / BATCH
            if t >= delay:
                to_b[t + wait] = t - delay, torch.autograd.grad(loss, leaf, retain_graph=True)[0]
            c = descend(c, loss)
            # all that is done at a step uses the parameters of before it: b replays before a does, and apart
            stamp, weight = to_b.get(t, (0, nothing))
            if t in to_b:
                own = taken.get(stamp, nothing).clone().requires_grad_()
                loss = (normed(b, None, own, "to_c") * weight).sum()
                if stamp in taken:
                    to_a[t + wait] = stamp - delay, torch.autograd.grad(loss, own, retain_graph=True)[0]
                b = descend(b, loss)
            if t in to_a:
                stamp, weight = to_a[t]
                a = descend(a, (normed(a, None, SOURCE.at(stamp)["x"], "to_b") * weight).sum())
            simulation.step()
            for name, p in (("a", a), ("b", b), ("c", c)):
                assert_close(simulation.agents[name], p, 1e-10)
            for name, own_statistics in statistics.items():
                for key, value in own_statistics.items():
                    torch.testing.assert_close(
                        simulation.agents[name].buffers[key], value, atol=1e-10, rtol=0
                    )
        assert simulation.agents["a"].updates == 14 - 2 * wait - 2 * delay


def fork_of_a(patience: dict[str, int], own: bool, **link: Any) -> Simulation:
    """a -> b, which learns at every step, and a -> c, which learns every six; each with a staleness of its own."""
    agents: dict[str, Any] = {
        "a": {"observes": ["x"], **({"objective": GOAL} if own else {})},
        "b": {"objective": GOAL},
        "c": {"objective": GOAL, "clock": {"unroll": 6}},
    }
    ends: dict[str, Any] = {"b": link, "c": {}}
    channels = [{"from": "a", "to": to, **DELAYED, "horizon": patience[to], "link": ends[to]} for to in "bc"]
    return simulation_of(agents, channels, SOURCE)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("patience", "given_up", "learned"),
    [
        # b's gradient is back one window later, c's (its windows end at steps 5, 11) after between one and six
        ({"b": 16, "c": 16}, [], {6: [0, 1, 2, 3, 4, 5]}),
        ({"b": 1, "c": 16}, [], {6: [0, 1, 2, 3, 4, 5]}),
        ({"b": 16, "c": 2}, [0, 1, 2, 3], {2: [0], 3: [1], 4: [2], 5: [3], 6: [4, 5]}),
        ({"b": 1, "c": 1}, [0, 1, 2, 3, 4], {1: [0], 2: [1], 3: [2], 4: [3], 5: [4], 6: [5]}),
    ],
)
def test_what_comes_too_late_for_its_channel_is_left_out(
    patience: dict[str, int], given_up: list[int], learned: dict[int, list[int]], own: bool
) -> None:
    """What is back, and a's own objective, is learned: by an optimiser step a window, all with the gradients of one moment."""
    with fork_of_a(patience, own) as simulation:
        a = leaves(simulation.agents["a"])
        readers = []
        for t in range(7):
            readers.append({to: leaves(simulation.agents[to]) for to in "bc"})
            if t == 0:
                sent = []
            sent.append({to: said(a, f"to_{to}", SOURCE.at(t)["x"]).detach() for to in "bc"})
            before = a
            for window in learned.get(t, []):
                seen = SOURCE.at(window)
                loss = torch.zeros((), dtype=torch.float64)
                for to in "b" if window in given_up else "bc":
                    reader = readers[window][to]
                    error = said(reader, "objective", sent[window][to]) - seen["y"]
                    returned = (error @ reader["objective.weight"]).detach()
                    loss = loss + (said(before, f"to_{to}", seen["x"]) * returned).sum() / BATCH
                if own:
                    loss = (
                        loss
                        + (said(before, "objective", seen["x"]) - seen["y"]).square().mean(1).sum() / BATCH
                    )
                moved = descend(before, loss)
                a = {key: (a[key] + moved[key] - before[key]).detach().requires_grad_() for key in a}
            simulation.step()
            assert_close(simulation.agents["a"], a)
            assert simulation.agents["a"].updates == sum(len(w) for s, w in learned.items() if s <= t)


def test_a_gradient_that_comes_after_its_channels_patience_is_left_out_while_the_window_waits_for_another() -> (
    None
):
    with fork_of_a({"b": 1, "c": 16}, own=False, delay=[0, 3]) as simulation:
        before = leaves(simulation.agents["a"])
        simulation.run(14)  # c's windows end at steps 5 and 11
        after = simulation.agents["a"]
        assert after.updates == 12
        changed = {name for name, p in after.parameters.items() if not torch.equal(p, before[name])}
        assert changed == {"to_c.weight", "to_c.bias"}


@pytest.mark.parametrize("network", [{"kind": "gru", "size": 4}, {"kind": "lstm", "size": 3}])
def test_a_late_replay_of_a_recurrent_window_has_its_state(network: dict[str, Any]) -> None:
    """On a receiver that stays as it is, what comes late moves the first window as a locked channel would have at once."""
    found = []
    for coupling, steps in (("locked", 3), ("delayed", 6)):
        agents = {
            "a": {"observes": ["x"], "network": network, "clock": {"unroll": 3}},
            "b": {"objective": GOAL, "clock": {"unroll": 3}, "optimiser": {"kind": "sgd", "lr": 1e-300}},
        }
        source = played(terminated=flags(0, 1, lengths=(1,) * STEPS))
        with simulation_of(agents, [{"from": "a", "to": "b", "coupling": coupling}], source) as simulation:
            simulation.run(steps)
            assert simulation.agents["a"].updates == 1
            found.append(leaves(simulation.agents["a"]))
            assert_close(simulation.agents["a"], found[0])
