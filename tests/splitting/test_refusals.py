"""What cannot be split or joined is one line that names the place and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import RunError, Simulation, split
from antiphon.envs import from_tensors
from tests.engine.numbers import one_line
from tests.splitting.models import ARCHITECTURES, ResNet, UNet, numbers
from tests.splitting.parts import Chain, chain_split, pictures, split_of


class Shared(Chain):
    """A parameter of its own that both sides of a cut read."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return self.third(self.second(self.first(x) * self.gain) * self.gain)


class TimeFirst(nn.Module):
    """[time, batch, features] between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.rnn, self.out = nn.Linear(7, 4), nn.GRU(4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.inp(x)[:, None].expand(-1, 2, -1).transpose(0, 1))
        found: Tensor = self.out(y)[-1]
        return found


class Wide(Chain):
    """Returns three values more than there are classes."""

    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return torch.cat([y, y[:, :3]], 1)


def untraceable() -> object:
    env = from_tensors(x=numbers(6, 8)(20, 0), y=numbers(6, 8)(20, 1))
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 3)
    return split(
        model, at=["layers.1"], inputs={"src": "x"}, env=env, objective={"kind": "regression", "target": "y"}
    )


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "a class": (lambda: chain_split(Chain), "model is type; give a torch.nn.Module"),
    "meta": (lambda: chain_split(Chain().to("meta")), "'first.weight' is not initialised .on the meta"),
    "untraceable": (untraceable, r"forward makes other calls in training than in evaluation, .*; .*parts="),
    "time first": (lambda: chain_split(TimeFirst(), ("out",)), r".*float32 \[2, 5, 4\]; only float tensors"),
    "a shared parameter": (lambda: chain_split(Shared()), ".*gain.*tie="),
    "a tie that is none": (lambda: chain_split(Chain(), tie="both"), "tie: 'both'"),
    "no such submodule": (
        lambda: chain_split(Chain(), ("secnd",)),
        "at: no submodule 'secnd'; did you mean 'second'",
    ),
    "no such position": (
        lambda: split(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), [9], env=pictures()),
        "at: no submodule 9",
    ),
    "no list": (lambda: chain_split(Chain(), "second"), "at: 'second'; give names of submodules"),
    "too many parts": (lambda: chain_split(Chain(), 50), "at=50: Chain can be cut at 2 places"),
    "not called": (
        lambda: split_of(ARCHITECTURES["fine_tuned"], ["old_head"]),
        "at: forward calls no submodule 'old_head'",
    ),
    "a list of modules": (
        lambda: split_of(ARCHITECTURES["mlp"], ["layers"]),
        ".*'layers'; cut before 'layers.0'",
    ),
    "nothing before a cut": (
        lambda: chain_split(Chain(), ("first",)),
        r"part 0 \(before 'first'\) computes nothing",
    ),
    "several inputs": (
        lambda: split(ARCHITECTURES["film"].model(), ["time"], env={"id": "antiphon/Digits-v0"}),
        r"Film.forward takes x, t, strength; give inputs=\{'x'",
    ),
    "no such argument": (
        lambda: chain_split(Chain(), inputs={"y": "x", "x": "x"}),
        "inputs: forward has no argument 'y'",
    ),
    "no such signal": (
        lambda: chain_split(Chain(), inputs={"x": "xs"}),
        "inputs: no signal 'xs'; did you mean 'x'",
    ),
    "a width that is not the data's": (
        lambda: split(nn.Sequential(nn.Flatten(), nn.Linear(60, 10)), ["1"], env=pictures()),
        r"Sequential does not take input \[5, 1, 8, 8\] .*",
    ),
    "no environment": (lambda: chain_split(Chain(), env=None), "env: is missing; pass an environment"),
    "no such target": (
        lambda: chain_split(Chain(), objective="labl"),
        "objective: no signal 'labl'; did you mean 'label'",
    ),
    "too many values": (
        lambda: chain_split(Wide()),
        r"forward returns a tensor \[5, 8\], and the objective needs 5 values",
    ),
    "no such output": (
        lambda: chain_split(Chain(), output="logits"),
        "forward returns a tensor .* output 'logits' is none",
    ),
    "parts and a model": (
        lambda: chain_split(Chain(), parts=[nn.Linear(7, 5)]),
        "give a model and where to cut it, or parts",
    ),
    "no such keyword": (
        lambda: chain_split(Chain(), gradeint="local"),
        "no argument 'gradeint'; did you mean 'gradient'?",
    ),
    "last layers that read several": (
        lambda: split(UNet(), ["bottom", "up2"], env=pictures(), gradient={"kind": "aug_local", "at": "up2"}),
        "gradient: the layers from 'up2' on read relu .*, and a head reads one message; name",
    ),
    "last layers of no submodule": (
        lambda: split(ResNet(), ["layer2"], env=pictures(), gradient={"kind": "aug_local", "at": "f"}),
        "gradient: at='f': forward calls no such submodule",
    ),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_split_is_one_line(name: str) -> None:
    attempt, expected = CASES[name]
    with one_line(f"split: {expected}"):
        attempt()


def test_what_cannot_be_joined_is_one_line() -> None:
    with Simulation("digits-mlp") as run, one_line("join: .*was not made by antiphon.split", RunError):
        antiphon.join(run)
    other = Chain()
    other.second = nn.Linear(7, 8)
    with (
        Simulation(chain_split(Chain())) as run,
        one_line(r"join: into: 'second.weight' is \[8, 7\]", RunError),
    ):
        antiphon.join(run, into=other)
