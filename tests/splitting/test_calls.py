"""A cut is before every call of its submodule: held to a plain loop whose submodule detaches what it is given."""

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
from tests.kit.tiers import sampled


class Net(nn.Module):
    """A stem and a tower, called as `forward_of` says, and a head."""

    def __init__(self, forward_of: Callable[[Any, Tensor, Tensor], Tensor], *, inplace: bool = False) -> None:
        super().__init__()
        self.forward_of = forward_of
        self.stem = nn.Linear(6, 6)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 6))
        self.norm, self.mid = nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.towers = nn.ModuleDict({"a": self.encoder})  # one module of two names
        self.head = nn.Linear(6, 4)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(self.forward_of(self, left, right))


def siamese(self: Net, left: Tensor, right: Tensor) -> Tensor:
    return (self.encoder(left) - self.encoder(right)).pow(2)


def looped(self: Net, left: Tensor, right: Tensor) -> Tensor:
    x = self.stem(left)
    for _ in range(3):
        x = self.encoder(x).tanh()
    return x


def residual(self: Net, left: Tensor, right: Tensor) -> Tensor:
    x = self.stem(left)
    for _ in range(2):
        x = self.encoder(x) + x
    return x


def recursive(self: Net, left: Tensor, right: Tensor, depth: int = 2) -> Tensor:
    return right if not depth else self.encoder(recursive(self, left, self.stem(right), depth - 1)) + left


def one_input(self: Net, left: Tensor, right: Tensor) -> Tensor:
    x = self.stem(left)
    return self.encoder(x) * self.encoder(-x)


def two_names(self: Net, left: Tensor, right: Tensor) -> Tensor:
    towers: Any = self.towers
    return self.encoder(left) * towers["a"](right).tanh()


def around(self: Net, left: Tensor, right: Tensor) -> Tensor:
    x = self.stem(left)
    return self.encoder(x) + x * self.mid(right)


def by_weights(self: Net, left: Tensor, right: Tensor) -> Tensor:
    y = self.encoder(left)
    last: Any = self.encoder[2]
    return y - F.linear(torch.relu(self.encoder[0](right)), last.weight, last.bias)


def both(self: Net, left: Tensor, right: Tensor) -> Tensor:
    y = self.encoder(left) - self.encoder(right)
    return self.encoder(y + self.mid(right))


def normed(self: Net, left: Tensor, right: Tensor) -> Tensor:
    return self.mid(self.norm(self.encoder(left))) - self.mid(self.norm(self.encoder(right)))


FORWARDS: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], tuple[str, ...]]] = {
    "two inputs": (siamese, ("encoder.2",)),
    "one input, the tower whole": (one_input, ("encoder",)),
    "a loop with a skip": (residual, ("encoder.2",)),
    "two cuts in the tower": (siamese, ("encoder.1", "encoder.2")),
    "one input": (one_input, ("encoder.2",)),
    "a loop": (looped, ("encoder.2",)),
    "a loop before its tower": (looped, ("encoder",)),
    "recursion": (recursive, ("encoder.2",)),
    "two names": (two_names, ("towers.a.2",)),
    "two names, a later cut": (two_names, ("encoder.2", "head")),
    "a skip around the cut": (around, ("encoder",)),
    "a skip around a cut inside": (around, ("encoder.2", "mid")),
    "both apart and in turn": (both, ("encoder.2",)),
    "functions of its weights": (by_weights, ("encoder.2",)),
    "statistics": (normed, ("mid",)),
}


def data(rows: int = 24) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"left": torch.randn(rows, 6), "right": torch.randn(rows, 6), "label": torch.randint(4, (rows,))}


def split_net(model: nn.Module, at: tuple[str, ...], **settings: Any) -> antiphon.Scenario:
    env = antiphon.envs.from_tensors(**data(), training_only=["label"], test=0, validation=0)
    return antiphon.split(model, at=at, env=env, batch=24, optimiser={"kind": "sgd", "lr": 0.1}, **settings)


def plain_loop(model: nn.Module, at: tuple[str, ...], steps: int, *, detached: bool) -> nn.Module:
    """The user's own loop; where the parts are detached, every call of a cut's submodule is, and what goes around it too."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    signals = {name: t.double() if t.is_floating_point() else t for name, t in data().items()}
    label = signals.pop("label")
    for name in at if detached else ():
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs: tuple(x.detach() for x in inputs)
        )
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(**signals), label).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model


BYPASSED = (
    "a skip around the cut",
    "a skip around a cut inside",
    "a loop with a skip",
    "functions of its weights",
)
"""Where something goes around the submodule, which a hook on its inputs does not see."""


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("name", "coupling"),
    [(name, "locked") for name in FORWARDS]
    + sampled([(name, "detached") for name in FORWARDS if name not in BYPASSED], 3, "nightly"),
)
def test_every_call_is_cut(name: str, coupling: str) -> None:
    forward, at = FORWARDS[name]
    torch.manual_seed(0)
    model = Net(forward).double()
    detached = coupling == "detached"
    scenario = split_net(model, at, coupling=coupling, tie="together")
    with Simulation(scenario, dtype=torch.float64) as run:
        run.run(steps=3, progress=False)
        joined = antiphon.join(run)
    wanted = plain_loop(copy.deepcopy(model), at, 3, detached=detached)
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, rtol=0, atol=1e-10)


def matrix(self: Net, left: Tensor, right: Tensor) -> Tensor:
    return self.encoder(left @ torch.full((6, 6), 0.3, dtype=torch.float64)) + self.mid(right)


def doubled(self: Net, left: Tensor, right: Tensor) -> Tensor:
    return self.encoder(left.float().double()) + self.mid(right)


@pytest.mark.parametrize("forward", [matrix, doubled])
def test_numbers_of_a_model_of_doubles_are_doubles(forward: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Net(forward).double()
    with Simulation(split_net(model, ("encoder",), coupling="locked"), dtype=torch.float64) as run:
        run.run(steps=5, progress=False)
        joined = antiphon.join(run)
    wanted = plain_loop(copy.deepcopy(model), (), 5, detached=False)
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, rtol=0, atol=1e-10)


HOOKS: dict[str, Callable[[nn.Module], object]] = {
    "before, all by position": lambda net: net.register_forward_pre_hook(
        lambda _, given: tuple(2 * one for one in given)
    ),
    "before, one of two": lambda net: net.register_forward_pre_hook(
        lambda _, given: (2 * given[0], given[1])
    ),
    "after": lambda net: net.register_forward_hook(lambda _, given, found: found * given[1].mean()),
    "before, by name": lambda net: net.register_forward_pre_hook(
        lambda _, given, named: (given, {**named, "left": 2 * named["left"]}), with_kwargs=True
    ),
    "before, by name, and one after that reads none": lambda net: (
        net.register_forward_pre_hook(
            lambda _, given, named: (given, {**named, "left": 2 * named["left"]}), with_kwargs=True
        ),
        net.register_forward_hook(lambda _, given, found: 3 * found),
    ),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_the_model_read_what_it_is_called_with(name: str) -> None:
    torch.manual_seed(0)
    model = Net(around).double()
    HOOKS[name](model)
    with Simulation(split_net(model, ("head",), coupling="locked"), dtype=torch.float64) as run:
        run.run(steps=5, progress=False)
        joined = antiphon.join(run)
    twin, signals = copy.deepcopy(model), data()
    optimiser, left, right = torch.optim.SGD(twin.parameters(), 0.1), signals["left"], signals["right"]
    for _ in range(5):
        optimiser.zero_grad()
        found = (
            twin(left=left.double(), right=right.double())
            if "name" in name
            else twin(left.double(), right.double())
        )
        F.cross_entropy(found, signals["label"]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, rtol=0, atol=1e-10)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["two inputs", "a loop", *BYPASSED])
def test_nothing_reaches_what_is_before_a_cut(name: str) -> None:
    forward, at = FORWARDS[name]
    torch.manual_seed(0)
    model = Net(forward)
    with Simulation(split_net(model, at, coupling="detached", tie="together")) as run:
        run.run(steps=3, progress=False)
        joined = antiphon.join(run)
    before = model.stem if at == ("encoder",) else model.encoder[0]
    after = joined.stem if at == ("encoder",) else joined.encoder[0]
    for parameter, trained in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(parameter, trained)
    assert not torch.equal(model.head.weight, joined.head.weight)


def written(self: Net, left: Tensor, right: Tensor) -> Tensor:
    x = self.stem(left)
    y = self.encoder(x)
    return y - self.encoder(x.add_(1))


def test_what_a_cut_before_every_call_cannot_keep_is_refused_by_name() -> None:
    with pytest.raises(
        ScenarioError, match=r"'encoder.2' is called several times, and .* writes in place between the calls"
    ):
        split_net(Net(written), ("encoder.2",), tie="together")
    with pytest.raises(
        ScenarioError,
        match=r"'encoder.0.weight' in part0, part1.*or a parameter read twice.; move the cut, or give tie=",
    ):
        split_net(Net(looped), ("encoder.2",))
    with pytest.raises(ScenarioError, match="running statistics cannot be in both"):
        split_net(
            Net(lambda self, left, right: self.norm(self.mid(self.norm(left)))), ("mid",), tie="together"
        )
    act = nn.Tanh()
    shared = nn.Sequential(nn.Linear(12, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 4))
    env = antiphon.envs.from_tensors(x=torch.randn(9, 12), label=torch.arange(9) % 4)
    assert len(antiphon.split(shared, at=[2, 4], env=env, inputs={"input": "x"}).agents) == 3
    with pytest.raises(
        ScenarioError, match=r"position 3 is one module with another position .the first is 1."
    ):
        antiphon.split(shared, at=[3], env=env, inputs={"input": "x"})


def test_calls_with_writes_in_place_of_their_own_are_cut() -> None:
    torch.manual_seed(0)
    model = Net(siamese, inplace=True)
    scenario = split_net(model, ("encoder.2",), coupling="detached")
    assert [channel.size for channel in scenario.channels] == [8, 8]
    assert [agent.observes for agent in scenario.agents.values()] == [("left", "right"), ()]


def test_cuts_list_the_calls_and_numbers_of_parts_leave_them_whole() -> None:
    cuts = {
        cut.name: cut
        for cut in antiphon.cuts(Net(siamese), (torch.zeros(2, 6), torch.zeros(2, 6)), inside=True)
    }
    assert [cuts[name].calls for name in ("encoder.2", "head")] == [2, 1]
    assert len(cuts["encoder.2"].tensors) == 2
    assert len(split_net(Net(siamese), 2).agents) == 2  # type: ignore[arg-type]
