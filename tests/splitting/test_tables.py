"""Tables that are made of the sizes and the type of a tensor do not cross a cut: their readers compute them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon import ScenarioError, Simulation


class Table(nn.Module):
    """A rotary table [1, T, 8]; of its first argument it reads the type, as models of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(1.0, 9.0))

    @torch.no_grad()
    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        frequencies: Any = self.frequencies
        return (place[:, :, None] * frequencies).cos().to(x.dtype)


class Scale(Table):
    """The same, but it reads numbers."""

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        return super().forward(x, place) * x.mean().item()


def places(x: Tensor) -> Tensor:
    return torch.arange(x.shape[1], device=x.device)[None]


TABLES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a module": lambda self, x: self.table(x, places(x)),
    "a method": lambda self, x: (places(x) + 1.0).sqrt()[:, :, None].to(x),
    "of zeros like one": lambda self, x: torch.zeros_like(x[:1, :, :1]) + 2.0,
    "of ones of its own": lambda self, x: x.new_ones(1, x.shape[1], 1) * 3,
    "of another's type": lambda self, x: (places(x) + 1)[:, :, None].type_as(x),
}


class Model(nn.Module):
    """Residual layers that read one table each."""

    def __init__(self, table: Callable[[Any, Tensor], Tensor], kind: type[Table] = Table) -> None:
        super().__init__()
        self.make, self.table = table, kind()
        self.token, self.head = nn.Embedding(8, 8), nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, words: Tensor) -> Tensor:
        x = self.token(words)
        table = self.make(self, x)
        for block in self.blocks:
            x = x + torch.tanh(block(x)) * table
        return self.head(x)


def words() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    text = torch.randint(8, (16, 6))
    text[0] = 7
    return text[:, :-1], text[:, 1:]


def split_model(model: nn.Module, at: Any) -> antiphon.Scenario:
    tokens, target = words()
    env = antiphon.envs.from_tensors(
        words=tokens, target=target, training_only=["target"], test=0, validation=0
    )
    optimiser = {"kind": "sgd", "lr": 0.5}
    settings: dict[str, Any] = {"objective": "target", "coupling": "locked", "batch": 16}
    return antiphon.split(model, at, env=env, optimiser=optimiser, **settings)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_computed_by_its_readers(name: str) -> None:
    torch.manual_seed(0)
    model = Model(TABLES[name]).double()
    scenario = split_model(model, ["blocks.1", "blocks.2"])
    assert [channel.size for channel in scenario.channels] == [(5, 8), (5, 8)]
    with Simulation(scenario, dtype=torch.float64) as run:
        run.run(steps=8, progress=False)
        joined = antiphon.join(run)
    wanted, (tokens, target) = copy.deepcopy(model), words()
    optimiser = torch.optim.SGD(wanted.parameters(), lr=0.5)
    for _ in range(8):
        optimiser.zero_grad()
        F.cross_entropy(wanted(tokens).transpose(1, 2), target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, rtol=0, atol=1e-10)


def test_a_table_of_numbers_is_refused_and_numbers_of_parts_cut_between_blocks() -> None:
    with pytest.raises(ScenarioError, match=r"'table' .*\[1, 5, 8\] has no batch as its first axis"):
        split_model(Model(TABLES["a module"], Scale), ["blocks.1"])
    assert list(split_model(Model(TABLES["a module"]), 2).agents) == ["part0", "part1"]
