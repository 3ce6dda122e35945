"""`delayed`: the real gradient when it comes; the window is replayed with present parameters (semantics 27b)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.batch_norm import drop_lost_biases
from tests.engine.numbers import assert_as_torch, equal, parameters
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

DOUBLE = torch.float64
LR = 0.1


def chain(delay: int = 0, staleness: int = 16, clocks: dict[str, Any] | None = None, **more: Any) -> Scenario:
    """a -> b -> c on the embedded digits, batch norm in a and b, plain gradient descent."""
    layer = {"kind": "mlp", "hidden": [8], "norm": "batch"}
    agents: dict[str, Any] = {
        "a": {"observes": ["image"], "network": layer},
        "b": {"network": layer},
        "c": {"network": {"kind": "mlp", "hidden": []}, "objective": CLASSIFY},
    }
    for name, clock in (clocks or {}).items():
        agents[name]["clock"] = clock
    link = {"coupling": "delayed", "link": {"delay": delay}, "staleness": staleness, **more}
    channels = [{"from": s, "to": r, **link} for s, r in ("ab", "bc")]
    return scenario_of(agents, channels, optimiser={"kind": "sgd", "lr": LR})


def torch_layers(simulation: Simulation) -> list[nn.Sequential]:
    layers = []
    for name in "abc":
        network = simulation.agents[name].module.get_submodule("network")
        parts = [network.get_submodule("head_objective" if name == "c" else "trunk")]
        layers.append(nn.Sequential(*copy.deepcopy(parts)).train())
        drop_lost_biases(layers[-1])
    return layers


def descend(layer: nn.Module, ends: list[tuple[Tensor, Tensor | None]], leaf: Tensor | None) -> Tensor | None:
    """One step of plain gradient descent; return the gradient at the leaf."""
    parameters = list(layer.parameters())
    inputs = [*parameters, *([] if leaf is None else [leaf])]
    found = torch.autograd.grad([e for e, _ in ends], inputs, [w for _, w in ends])
    for p, g in zip(parameters, found, strict=False):
        p.data -= LR * g
    return None if leaf is None else found[-1]


def replayed(layer: nn.Sequential, x: Tensor) -> Tensor:
    """Evaluate with present parameters and batch statistics, the running ones untouched."""
    for module in layer[0].children():
        if isinstance(module, nn.BatchNorm1d):
            x = F.batch_norm(x, None, None, module.weight, module.bias, True)
        else:
            x = module(x)
    return x


@pytest.mark.parametrize("delay", [0, 2])
def test_a_chain_equals_a_hand_written_loop(delay: int) -> None:
    """A delta returned at step t is learned from at t + 1 or, if its way back is longer, when it arrives."""
    simulation = Simulation(chain(delay), dtype=DOUBLE)
    a, b, c = layers = torch_layers(simulation)
    seen: list[Tensor] = []
    from_a: list[Tensor] = []
    from_b: list[Tensor] = []
    taken: dict[int, Tensor] = {}
    wait = max(delay, 1)
    returned_b: dict[int, tuple[int, Tensor]] = {}
    returned_a: dict[int, tuple[int, Tensor]] = {}
    for t in range(30):
        signals = simulation.world.step_signals.signals
        seen.append(signals["image"].flatten(1))
        from_a.append(a(seen[t]).data)
        if t >= delay:
            taken[t] = from_a[t - delay]
        from_b.append(b(taken.get(t, torch.zeros(8, 8, dtype=DOUBLE))).data)
        heard = from_b[t - delay] if t >= delay else torch.zeros(8, 8, dtype=DOUBLE)
        # c learns at once; what it finds at its leaf was made by b at t - delay.
        leaf = heard.clone().requires_grad_()
        delta = descend(c, [(F.cross_entropy(c(leaf), signals["label"]), None)], leaf)
        # All that is done at a step uses the parameters of before it: b replays before a does, and apart.
        jobs = []
        if t in returned_b:
            s, weight = returned_b[t]
            own = taken[s].clone().requires_grad_() if s in taken else None
            x = own if own is not None else torch.zeros(8, 8, dtype=DOUBLE)
            jobs.append((b, [(replayed(b, x), weight)], own, s))
        if t in returned_a:
            s, weight = returned_a[t]
            jobs.append((a, [(replayed(a, seen[s]), weight)], None, s))
        for layer, ends, own, s in jobs:
            back = descend(layer, ends, own)  # type: ignore[arg-type]
            if layer is b and back is not None:
                returned_a[t + wait] = (s - delay, back)
        if t >= delay:
            assert delta is not None
            returned_b[t + wait] = (t - delay, delta)
        simulation.step()
        assert_as_torch(simulation, dict(zip("abc", layers, strict=True)))
    assert simulation.agents["a"].updates == 30 - 2 * wait - 2 * delay


def steps_learned(simulation: Simulation, agent: str, steps: int) -> Iterator[tuple[int, list[int]]]:
    for t in range(steps):
        simulation.step()
        windows = [u.tape.window for u in simulation.learned.updates if agent in u.group.members]
        if windows:
            yield t, windows


def test_every_hop_costs_one_window() -> None:
    simulation = Simulation(chain())
    assert next(iter(steps_learned(simulation, "b", 9))) == (1, [0])
    simulation = Simulation(chain())
    assert next(iter(steps_learned(simulation, "a", 9))) == (2, [0])


def test_windows_that_come_back_together_are_learned_one_by_one() -> None:
    """The receiver's window holds three of the sender's: three replays, three optimiser steps of their own."""
    simulation = Simulation(
        chain(clocks={"b": {"unroll": 3}, "c": {"unroll": 3}}, size=4, norm="none"), dtype=DOUBLE
    )
    found = []
    images: list[Tensor] = []
    for _ in range(7):
        images.append(simulation.world.step_signals.signals["image"].flatten(1))
        records = dict(simulation._system.channels["a->b"].ledger.records)
        before = {k: p.data.clone() for k, p in simulation.agents["a"].parameters.items()}
        simulation.step()
        updates = [u for u in simulation.learned.updates if "a" in u.group.members]
        for update in updates:
            record = records[update.tape.window]
            assert record.delta is not None
            weight = before["0.weight"].requires_grad_()
            hidden = F.linear(images[update.tape.window], weight, before["0.bias"])
            norm = F.batch_norm(hidden, None, None, before["0.norm.gain"], before["0.norm.bias"], True)
            sent = F.linear(torch.relu(norm), before["to_b.weight"], before["to_b.bias"])
            (expected,) = torch.autograd.grad(sent, weight, record.delta / 8)
            own = dict(zip(simulation.agents["a"].parameters, update.gradients["a"], strict=True))["0.weight"]
            assert own is not None
            torch.testing.assert_close(own, expected, atol=1e-10, rtol=0)
        found.append(len(updates))
    assert max(found) == 3
    assert simulation.agents["a"].updates == sum(found)


def test_what_is_too_old_is_dropped_and_the_ledger_stays_whole() -> None:
    clocks = {"c": {"unroll": 6}}
    simulation = Simulation(chain(staleness=2, clocks=clocks))
    before = parameters(simulation, "b")
    learned = dict(steps_learned(simulation, "b", 30))
    # Deltas are back one step after c's windows end (steps 5, 11, …): by then only the newest windows are left.
    assert {t: windows for t, windows in learned.items() if t < 13} == {6: [4, 5], 12: [10, 11]}
    assert not equal(before, parameters(simulation, "b"))
    unit = simulation._system.group_of["b"]
    assert len(unit.pending) <= 3


def test_a_cycle_of_delayed_channels_gives_every_gradient_up() -> None:
    """Each waits for the other's window, which waits for its own: nothing ever comes back whole, and own goals alone count."""
    net = {"kind": "mlp", "hidden": [4], "norm": "layer"}
    pair = {"coupling": "delayed", "size": 3, "link": {"delay": 1}, "staleness": 2}
    agents = {"a": {"observes": ["image"], "network": net}, "b": {"network": net, "objective": CLASSIFY}}
    channels = [{"from": "a", "to": "b", **pair}, {"from": "b", "to": "a", **pair}]
    simulation = Simulation(scenario_of(agents, channels, batch=4))
    simulation.run(20)
    assert simulation.agents["a"].updates == 0
    assert simulation.agents["b"].updates == 17  # windows 0 to 16, each three steps after its end


def fork_of_a(patience: dict[str, int], own: bool) -> Simulation:
    """a -> b, which learns at every step, and a -> c, which learns every six; each with a staleness of its own."""
    agents: dict[str, Any] = {
        "a": {"observes": ["image"], "network": LINEAR_MAP, **({"objective": CLASSIFY} if own else {})},
        "b": {"network": LINEAR_MAP, "objective": CLASSIFY},
        "c": {"network": LINEAR_MAP, "objective": CLASSIFY, "clock": {"unroll": 6}},
    }
    late = {"size": 3, "norm": "none", "coupling": "delayed"}
    channels = [{"from": "a", "to": to, **late, "staleness": patience[to]} for to in "bc"]
    return Simulation(scenario_of(agents, channels, optimiser={"kind": "sgd", "lr": LR}), dtype=DOUBLE)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("patience", "given_up", "learned"),
    [
        # b's delta is back one window later, c's (its windows end at steps 5, 11) after between one and six.
        ({"b": 16, "c": 16}, [], {6: [0, 1, 2, 3, 4, 5]}),
        ({"b": 1, "c": 16}, [], {6: [0, 1, 2, 3, 4, 5]}),
        ({"b": 16, "c": 2}, [0, 1, 2, 3], {3: [0], 4: [1], 5: [2], 6: [3, 4, 5]}),
        ({"b": 1, "c": 1}, [0, 1, 2, 3, 4], {2: [0], 3: [1], 4: [2], 5: [3], 6: [4, 5]}),
    ],
)
def test_staleness_is_per_channel(
    patience: dict[str, int], given_up: list[int], learned: dict[int, list[int]], own: bool
) -> None:
    """What c returns too late is left out of a window; what b has returned, and a's own objective, is learned."""
    simulation = fork_of_a(patience, own)
    found: dict[int, list[int]] = {}
    images, labels = [], []
    for t in range(7):
        signals = simulation.world.step_signals.signals
        images.append(signals["image"].flatten(1).clone())
        labels.append(signals["label"].clone())
        records = {to: dict(simulation._system.channels[f"a->{to}"].ledger.records) for to in "bc"}
        present = {key: p.data.clone() for key, p in simulation.agents["a"].parameters.items()}
        simulation.step()
        for update in [u for u in simulation.learned.updates if "a" in u.group.members]:
            window = update.tape.window
            found.setdefault(t, []).append(window)
            weights = {key: p.requires_grad_() for key, p in present.items()}
            loss = torch.zeros((), dtype=DOUBLE)
            for to in "b" if window in given_up else "bc":
                delta = records[to][window].delta
                assert delta is not None
                sent = F.linear(images[window], weights[f"to_{to}.weight"], weights[f"to_{to}.bias"])
                loss = loss + (sent * delta).sum() / 8
            if own:
                logits = F.linear(images[window], weights["objective.weight"], weights["objective.bias"])
                loss = loss + F.cross_entropy(logits, labels[window])
            expected = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for key, ours, theirs in zip(weights, update.gradients["a"], expected, strict=True):
                if theirs is None or ours is None:
                    assert ours is theirs, key
                else:
                    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    assert found == learned
    assert (
        max(patience.values()) >= 16
        or len(simulation._system.group_of["a"].pending) <= max(patience.values()) + 1
    )


def test_what_was_given_up_survives_a_checkpoint(tmp_path: Path) -> None:
    """Between the window at which a channel is given up and the one at which another lets it be learned."""
    for early in range(1, 7):
        simulation = fork_of_a({"b": 16, "c": 2}, own=False)
        simulation.run(early)
        loaded = Simulation.load(simulation.save(tmp_path / f"{early}"))
        for run in (simulation, loaded):
            run.run(12 - early)
        assert equal(parameters(simulation, "a"), parameters(loaded, "a"))


def test_a_gradient_that_comes_after_its_channels_patience_is_left_out() -> None:
    """Also where the window waits for another channel meanwhile."""
    simulation = fork_of_a({"b": 1, "c": 16}, own=False)
    simulation._system.channels["a->b"].ledger.back = 3  # b's deltas are three steps on their way
    reached: dict[int, set[str]] = {}
    for _ in range(14):  # c's windows end at steps 5 and 11
        simulation.step()
        names = list(simulation.agents["a"].parameters)
        for update in simulation.learned.updates:
            if "a" in update.group.members:
                found = zip(names, update.gradients["a"], strict=True)
                reached[update.tape.window] = {name for name, gradient in found if gradient is not None}
    assert reached == {window: {"to_c.weight", "to_c.bias"} for window in range(12)}
