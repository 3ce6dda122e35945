"""Errors of a user's network or objective at a step are one line that names the function, its place and the step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import RunError
from tests.contracts.builders import Document, ring
from tests.contracts.twins import made
from tests.engine.numbers import one_line
from tests.reference.backend import Chosen, reference

ROWS = 8


class Fails(nn.Linear):
    """A network that fails for the rows of a run, and not for the two of a dry run."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.counted(x))

    def counted(self, x: Tensor) -> Tensor:
        if len(x) >= ROWS:
            raise ValueError("not so many\n(as a second line says)")
        return x


class Misshapes(Fails):
    """A network whose error is torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x[:, 1:] if len(x) >= ROWS else x, self.weight, self.bias)


class Clamps(nn.Module):
    """A network that changes its own parameters in place."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, 4), nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.last.weight.clamp_(-0.5, 0.5)
        found: Tensor = self.last(self.first(x))
        return found


def failing(output: Tensor, target: Tensor) -> Tensor:
    """A loss with a bug of its own."""
    return {}["nothing"] if len(output) >= ROWS else F.cross_entropy(output, target, reduction="none")


def scene(network: Any = None, objective: Any = None) -> Document:
    agent: Document = {"clock": {"unroll": 2}}
    agent |= {} if network is None else {"network": network}
    agent |= {} if objective is None else {"objective": {"kind": objective, "target": "label"}}
    return ring(count=1, agent=agent, channel={"coupling": "detached"}, batch=ROWS)


@pytest.mark.parametrize("backend", [reference, "cohort"])
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"network": Fails},
            r"step 1: agents.n0: Fails.counted failed at test_failures.py:\d+: ValueError: not so many$",
        ),
        (
            {"network": Misshapes},
            r"step 1: agents.n0: Misshapes.forward failed at test_failures.py:\d+: RuntimeError: ",
        ),
        (
            {"objective": failing},
            (
                r"step 2: agents.n0.objective: failing failed at test_failures.py:\d+: KeyError: 'nothing'; "
                r"it was called with output \[8, 3\], target \[8\]$"
            ),
        ),
        (
            {"network": Clamps},
            r"step 2: a network \(n0\) changed its parameters, or something computed from them, in place",
        ),
    ],
    ids=["a network", "torch in a network", "an objective", "a network that changes itself"],
)
def test_an_error_of_a_users_code_is_one_line(settings: Document, line: str, backend: Chosen) -> None:
    with made(scene(**settings), backend) as simulation, one_line(line, error=RunError):
        simulation.run(steps=4, progress=False)
