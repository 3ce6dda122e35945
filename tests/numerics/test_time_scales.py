"""Two timescales: the library's scenario against a loop by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from antiphon import Simulation, envs
from antiphon.scenarios import load
from tests.numerics.timescales_by_hand import TimescalesByHand
from tests.numerics.whole import DOUBLE, predictor_of

SMALL = {"hidden": 12, "size": 6, "units": 10, "batch": 16}


def simulation(kind: str) -> Simulation:
    values = {**SMALL, "gradient": kind, "schedule": "constant", "memory_context": []}
    return Simulation(load("two-timescales").resolve("decoupled", values), dtype=DOUBLE)


def pairs(run: Simulation, hand: TimescalesByHand) -> Iterator[tuple[str, Tensor, nn.Parameter]]:
    """The engine's numbers beside those by hand."""
    a, b = run.agents["A"].parameters, run.agents["B"].parameters
    encoder, speak = list(hand.encoder.children()), list(hand.speak.children())
    for i in range(2):
        yield from _layer(f"{i}", a, encoder[3 * i], encoder[3 * i + 1])
    yield from _layer("to_B", a, speak[0], speak[1])
    for own, cell, head in ((a, hand.cell_a, hand.odd), (b, hand.cell_b, hand.threes)):
        for part, name in (("input", "ih"), ("recurrent", "hh")):
            for what in ("weight", "bias"):
                yield f"cell.{part}.{what}", own[f"cell.{part}.{what}"], getattr(cell, f"{what}_{name}")
        yield from _layer("objective", own, head)
    for name, model in (
        ("A->B", hand.credit),
        ("A->A:state", hand.memory_a.model),
        ("B->B:state", hand.memory_b.model),
    ):
        own, layers = predictor_of(run, name).parameters, list(model.children())
        if len(layers) > 1:
            yield from _layer("0", own, layers[0], layers[1])
        yield from _layer("last", own, layers[-1])


def _layer(
    name: str, own: dict[str, Tensor], *layers: nn.Module
) -> Iterator[tuple[str, Tensor, nn.Parameter]]:
    keys = [f"{name}.weight", f"{name}.bias", f"{name}.norm.gain", f"{name}.norm.bias"]
    theirs = [p for layer in layers for p in layer.parameters()]
    for key, p in zip(keys, theirs, strict=False):
        yield key, own[key], p


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", ["linear", "mlp", "sobolev_label"])
def test_two_timescales_are_learned_as_by_hand(kind: str) -> None:
    with simulation(kind) as run:
        world = envs.make(run.scenario.env, batch=SMALL["batch"], dtype=DOUBLE)
        world.reset(seed=0)
        hand = TimescalesByHand(64, kind=kind, dtype=DOUBLE, **SMALL)
        start = {}
        for name, own, p in pairs(run, hand):
            p.data.copy_(own)
            start[name, id(p)] = own.detach().clone()
        assert len(start) == len([*hand.a, *hand.b, *hand.credit.parameters()]) + 2 * 6
        for _ in range(48):  # three windows of B
            seen = run.signals
            *_, after = world.step()
            run.step()
            hand.step(seen["image"].flatten(1), seen["count_so_far"], after["odd"], after["threes"])
        for name, own, p in pairs(run, hand):
            assert torch.allclose(own, p, atol=1e-9, rtol=0), name
            assert not torch.allclose(own, start[name, id(p)], atol=1e-4) or name.endswith("bias"), name
