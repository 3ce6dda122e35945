"""The door for modules: each row of its table, and a net that combines what torch allows and compares with a loop by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import antiphon

_STEPS = 4
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def env() -> Any:
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # imports torch's compiler, which no test shall pay for
    random = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=random, dtype=torch.float64)
    return antiphon.envs.from_tensors(x=x, label=torch.randint(3, (60,), generator=random))


class Odd(nn.Module):
    """A layer with some of what torch allows beside its weight."""

    def __init__(self, traits: frozenset[str], calls: list[int]) -> None:
        super().__init__()
        self.traits = traits
        self.layer = nn.Linear(6, 8)
        self.spare, self.fixed = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(8), requires_grad=False)
        self.register_buffer("start", torch.tensor([1.7e9 + 0.25], dtype=torch.float64))
        self.register_buffer("turn", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("order", torch.tensor([5, 4, 3, 2, 1, 0], dtype=torch.int16))
        self.register_buffer("mean", torch.zeros(8), persistent=False)
        self.register_buffer("share", torch.ones(()))
        self.norm = nn.BatchNorm1d(8)
        if "shared" in traits:
            self.again = nn.ModuleDict({"in": nn.ModuleList([self.layer])})
        if "parametrized" in traits:
            parametrizations.weight_norm(self.layer)
        if "module_hooks" in traits:
            self.tanh = nn.Tanh()
            self.tanh.register_forward_hook(lambda m, inputs, y: calls.append(2))
            self.layer.register_forward_hook(lambda m, inputs, y: y * 1.5)

    def train(self, mode: bool = True) -> Odd:
        super().train(mode)
        if "own_train" in self.traits:
            self.norm.train(not mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        own = x.dtype
        if "types" in self.traits:
            x = x[:, self.order.long()] * (self.start - 1.7e9).to(own)
        y = self.layer(x) * self.fixed.clone()
        if "shared" in self.traits:
            y = y + self.again["in"][0](x)
        if "types" in self.traits:
            pairs = torch.view_as_complex(y.unflatten(1, (4, 2)).contiguous())
            y = torch.view_as_real(pairs * self.turn).flatten(1).to(own)
        if self.traits & {"own_train", "norm"}:
            y = self.norm(y)
        if "module_hooks" in self.traits:
            y = self.tanh(y)
        if "in_place" in self.traits and self.training:
            with torch.no_grad():
                self.mean.lerp_(y.mean(0), 0.5)
            y = y - self.mean
        if "recomputed" in self.traits:
            if self.training:
                self.share.mul_(0.9)
            y = checkpoint(
                lambda inner: (inner * self.share).sin() + self.norm(inner), y, use_reentrant=False
            )
            if y.requires_grad:
                y.register_hook(lambda g: g * self.share)
        if "frozen" in self.traits and self.training:
            with torch.no_grad():
                for p in self.parameters():
                    if not p.requires_grad:
                        p.mul_(0.9)
        return y.clone().mul_(0.5)


def _model(traits: frozenset[str], calls: list[int]) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(Odd(traits, calls), nn.Tanh(), nn.Linear(8, 3)).double()
    if "own_train" in traits:
        model.train()
    return model


def _run(env: Any, model: nn.Module) -> Any:
    goal = {"kind": "classification", "target": "label"}
    mind = {"observes": ["x"], "network": model, "objective": goal}
    training = {"batch": 8, "optimiser": {"kind": "adam", "lr": 0.01}}
    scenario = antiphon.Scenario(scenario="own", env=env, agents={"mind": mind}, training=training)
    return antiphon.Simulation(scenario, dtype=torch.float64)


def _values(run: Any) -> dict[str, Tensor]:
    """Copies of parameters and buffers: steps write in place."""
    found: dict[str, Tensor] = {}
    for agent in run.agents.values():
        values = agent.parameters | agent.buffers
        found |= {key.removeprefix("module."): value.clone() for key, value in values.items()}
    return found


def _distance(run: Any, env: Any, loop: nn.Module) -> float:
    """Train a model by hand on the batches of a run, and return how far their parameters and buffers are apart."""
    optimiser = torch.optim.Adam([p for p in loop.parameters() if p.requires_grad], lr=0.01)
    for _ in range(_STEPS):
        batch = {name: value.clone() for name, value in run.signals.items()}
        run.step()
        optimiser.zero_grad()
        cross_entropy(loop(batch["x"].double()), batch["label"]).backward()
        optimiser.step()
    have = _values(run)
    want = dict([*loop.named_parameters(), *loop.named_buffers()])
    want = {key: t for key, t in want.items() if key in have}
    assert len(want) >= 6
    return max(float((have[key] - t).abs().max()) for key, t in want.items())


_TRAITS = (
    *("types", "shared", "parametrized", "module_hooks", "in_place", "frozen", "norm"),
    "recomputed",
)


def _same(env: Any, traits: frozenset[str]) -> None:
    calls: list[int] = []
    by_hand: list[int] = []
    loop = _model(traits, by_hand)
    with _run(env, _model(traits, calls)) as run:
        calls.clear()  # of the trials
        assert _distance(run, env, loop) < 1e-6
    assert sorted(calls) == sorted(by_hand)
    assert len(calls) == _STEPS * ("module_hooks" in traits)


def test_what_torch_allows_means_the_same(env: Any) -> None:
    _same(env, frozenset(_TRAITS))
    _same(env, frozenset({"own_train"}))
