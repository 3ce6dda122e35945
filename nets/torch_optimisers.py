"""Optimisers of `torch.optim` and users' own, by class or factory; a stack's members take their steps one by one.

A parameter without a gradient stays, as in plain torch. What a user's class draws is a function of the run's seed and the number of
its step.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon.base.errors import ScenarioError, named
from antiphon.base.extensions import Catalogue, call_factory, key_of, name_of
from antiphon.base.tools import copy_with
from antiphon.nets.optimisers import MemberMask, Skip, clipped
from antiphon.nets.plain_trees import from_tree, to_tree
from antiphon.nets.random import seed_for, torch_seeded

Tree = dict[str, Any]


class TorchOptimiser:
    """An optimiser of a torch or user-defined class on a list of tensors, with the interface of `Optimiser`.

    Attributes:
        members: The members of a stack, which step one after the other; their parameters are views of the stack's.

    Args:
        parameters: The tensors that it changes in place; without any it does nothing.
        kind: A registered name, the name of a class of `torch.optim`, or a class or factory.
        options: Keyword arguments beside `lr`.
        clip: The largest joint norm of the gradients; None: no limit.
        groups: By number of axes, other kinds with their options and learning rates for the parameters that have so many.
        owner: Who is optimised, such as `agents.eye`, for errors.
        seed: Of the random numbers that a user's class draws.

    Raises:
        ScenarioError: The optimiser cannot be made; the line begins with the key.
    """

    clips = True

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        kind: Any,
        options: Mapping[str, Any],
        lr: float,
        clip: float | None = None,
        groups: Mapping[int, tuple[Any, Mapping[str, Any], float]] = MappingProxyType({}),
        owner: str = "",
        seed: int = 0,
    ) -> None:
        self.parameters, self.owner, self.seed = list(parameters), owner, seed
        self.kind, self.options, self.lr, self.clip, self.groups = kind, options, lr, clip, groups
        self.torch = self._made()
        self._shares = rate_shares(self.torch, lr)
        self.members: tuple[TorchOptimiser, ...] = ()
        self.skip: Skip | None = None
        parts = self.torch.parts if isinstance(self.torch, _Joined) else filter(None, (self.torch,))
        self._is_users = not all(type(one).__module__.startswith("torch.") for one in parts)

    @classmethod
    def stacked(cls, optimisers: Sequence[TorchOptimiser], stacks: Sequence[Tensor]) -> TorchOptimiser:
        """Combine the optimisers of a stack's members, in the order of the stacks' first axis, into one."""
        del stacks
        return copy_with(optimisers[0], members=tuple(optimisers))

    def _made(self) -> torch.optim.Optimizer | None:
        """Return a new optimiser with these settings, in its initial state; None if it has no parameters."""
        if not self.parameters:
            return None
        rest = [p for p in self.parameters if p.dim() not in self.groups]
        optimisers = [_made("optimiser", rest, self.kind, self.options, self.lr)] if rest else []
        for position, (axes, settings) in enumerate(self.groups.items()):
            if parameters_with_axes := [p for p in self.parameters if p.dim() == axes]:
                optimisers.append(_made(f"optimiser.groups.{position}", parameters_with_axes, *settings))
        return optimisers[0] if len(optimisers) == 1 else _Joined(optimisers)

    @property
    def key(self) -> Hashable:
        """What is equal in optimisers of one kind and settings; rates and the limit of the norm may differ."""
        groups = {axes: (key_of(kind, options), lr) for axes, (kind, options, lr) in self.groups.items()}
        return key_of(self.kind, self.options), *groups.items()

    @property
    def state(self) -> dict[str, list[Any]]:
        """Its state as data, without copying: the tree of torch's `state_dict`."""
        return {"torch": [] if self.torch is None else [to_tree(self.torch.state_dict())]}

    def initial_state(self) -> dict[str, list[Any]]:
        optimiser = self._made()
        return {"torch": [] if optimiser is None else [to_tree(optimiser.state_dict())]}

    def load(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Load a copy of a state."""
        if self.torch is None:
            return
        state_dict = from_tree(state["torch"][0])
        self.torch.load_state_dict(state_dict)
        places = [p for group in self.torch.param_groups for p in group["params"]]
        for index, held in state_dict["state"].items():
            self.torch.state[places[index]] = (
                held  # torch turns tensors into the parameter's type, counts too
            )

    def tensors(self) -> Iterator[Tensor]:
        for optimiser in self.members or (self,):
            yield from (leaf for leaf in tree_leaves(optimiser.state) if isinstance(leaf, Tensor))

    @torch.no_grad()
    def step(
        self,
        gradients: Sequence[Tensor | None],
        rate: float | Tensor,
        member_mask: MemberMask = None,
        counts: Sequence[int] = (0,),
    ) -> None:
        """Update the parameters along `-gradients`.

        Args:
            gradients: See `Optimiser`, as for the rate and the mask; `skip` is read on the host.
            counts: The number of this step, of each member.
        """
        if self.skip is not None and bool(self.skip.flag):
            return
        rates = rate.tolist() if isinstance(rate, Tensor) and rate.dim() else [rate] * len(self.members)
        for n, member in enumerate(self.members):
            if member_mask is None or member_mask[n]:
                member.step([None if g is None else g[n] for g in gradients], rates[n], None, [counts[n]])
        if self.members or self.torch is None:
            return
        if self.clip is not None and self.clips:
            short = iter(clipped([g for g in gradients if g is not None], self.clip))
            gradients = [None if g is None else next(short) for g in gradients]
        self.follow(rate)
        for p, g in zip(self.parameters, gradients, strict=True):
            p.grad = g
        if self._is_users:
            with torch_seeded(seed_for(self.seed, "optimiser", str(counts[0])), self.parameters[0].device):
                self.take()
        else:
            self.take()
        for p in self.parameters:
            p.grad = None

    def follow(self, rate: float | Tensor) -> None:
        """Set `lr` of each group to its initial share of a rate."""
        assert self.torch is not None
        for group, share in zip(self.torch.param_groups, self._shares, strict=True):
            group["lr"] = rate * share

    def take(self) -> None:
        """Take the step of torch's optimiser along the parameters' `grad`."""
        assert self.torch is not None
        with named(f"{self.owner}.optimiser" if self.owner else "optimiser"):
            self.torch.step()


class _Joined(torch.optim.Optimizer):
    """Optimisers of different parameters as one: with the groups of all, in order, and one state."""

    def __init__(self, optimisers: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(optimisers)
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        super().__init__(groups, {})
        self._share()

    def _share(self) -> None:
        """Give the parts their groups, and the one state."""
        groups = iter(self.param_groups)
        for optimiser in self.parts:
            optimiser.__setstate__(
                {"state": self.state, "param_groups": [next(groups) for _ in optimiser.param_groups]}
            )

    def __setstate__(self, state: Tree) -> None:
        """Take over a loaded state."""
        super().__setstate__(state)
        self._share()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for optimiser in self.parts:
            optimiser.step()


def rate_shares(optimiser: torch.optim.Optimizer | None, base: float) -> list[float]:
    """Return the learning rates of an optimiser's groups as shares of its initial rate."""
    return [] if optimiser is None else [group["lr"] / base for group in optimiser.param_groups]


def _made(
    section: str, parameters: list[Tensor], kind: Any, options: Mapping[str, Any], lr: float
) -> torch.optim.Optimizer:
    """Return an optimiser of some parameters; `section`: the key path that begins errors."""
    source: Any = Catalogue("optimiser")[kind] if isinstance(kind, str) else kind
    name = name_of(kind)
    try:
        optimiser = call_factory(lambda **keys: source(parameters, **keys), name, lr=lr, **options)
    except ScenarioError as error:
        raise ScenarioError(f"{section}: {error}") from None
    if not isinstance(optimiser, torch.optim.Optimizer):
        fix = (
            f"returned {type(optimiser).__name__}, not a torch.optim.Optimizer; return one of its parameters"
        )
        raise ScenarioError(f"{section}: {name} {fix}")
    return optimiser
