"""Optimisers of `torch.optim` and users' own, by class or factory; a stack's members take their steps one by one.

A parameter without a gradient stays, as in plain torch. What a user's class draws is a function of the run's seed and the number of
its step.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, named, require
from antiphon.base.extensions import Catalogue, key_of, name_of
from antiphon.nets.optimisers import MemberMask, Skip
from antiphon.nets.plain_trees import from_tree, to_tree
from antiphon.nets.random import seed_for, torch_seeded


class TorchOptimiser:
    """An optimiser of a torch or user-defined class on a list of tensors, with the interface of `Optimiser`.

    The members of a stack step one after the other; their parameters are views of the stack's.

    Args:
        kind: A registered name, the name of a class of `torch.optim`, or a class or factory.
        options: Keyword arguments beside `lr`.
        owner: Who is optimised, such as `agents.eye`, for errors; ScenarioError begins with it where the optimiser cannot be made.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        kind: Any,
        options: Mapping[str, Any],
        lr: float,
        clip: float | None = None,
        owner: str = "",
        seed: int = 0,
    ) -> None:
        self.parameters, self.owner, self.seed = list(parameters), owner, seed
        self.kind, self.options, self.lr, self.clip = kind, options, lr, clip
        self.torch = self._made() if self.parameters else None
        groups = [] if self.torch is None else self.torch.param_groups
        self._shares = [group["lr"] / lr for group in groups]
        self.members: tuple[TorchOptimiser, ...] = ()
        self.skip: Skip | None = None

    def _made(self) -> torch.optim.Optimizer:
        source: Any = Catalogue("optimiser")[self.kind] if isinstance(self.kind, str) else self.kind
        name = name_of(self.kind)
        made: torch.optim.Optimizer = source(self.parameters, lr=self.lr, **self.options)
        fix = f"returned {type(made).__name__}, not a torch.optim.Optimizer; return one of its parameters"
        require(isinstance(made, torch.optim.Optimizer), "optimiser", f"{name} {fix}", ScenarioError)
        return made

    @property
    def key(self) -> Hashable:
        """What is equal in optimisers of one kind and settings; rates and the limit of the norm may differ."""
        return key_of(self.kind, self.options)

    @property
    def state(self) -> dict[str, list[Any]]:
        """Its state as data, without copying: the tree of torch's `state_dict`."""
        return {"torch": [] if self.torch is None else [to_tree(self.torch.state_dict())]}

    def load(self, state: Mapping[str, Sequence[Any]]) -> None:
        if self.torch is None:
            return
        state_dict = from_tree(state["torch"][0])
        self.torch.load_state_dict(state_dict)
        places = [p for group in self.torch.param_groups for p in group["params"]]
        for index, held in state_dict["state"].items():
            # torch turns tensors into the parameter's type, counts too
            self.torch.state[places[index]] = held

    @torch.no_grad()
    def step(
        self,
        gradients: Sequence[Tensor | None],
        rate: float | Tensor,
        member_mask: MemberMask = None,
        counts: Sequence[int] = (0,),
    ) -> None:
        """Update the parameters along `-gradients`; `counts`: the number of this step, of each member. `skip` is read on the host."""
        if self.skip is not None and bool(self.skip.flag):
            return
        rates = rate.tolist() if isinstance(rate, Tensor) and rate.dim() else [rate] * len(self.members)
        for n, member in enumerate(self.members):
            if member_mask is None or member_mask[n]:
                member.step([None if g is None else g[n] for g in gradients], rates[n], None, [counts[n]])
        if self.members or self.torch is None:
            return
        for group, share in zip(self.torch.param_groups, self._shares, strict=True):
            group["lr"] = rate * share
        for p, g in zip(self.parameters, gradients, strict=True):
            p.grad = g
        seed = seed_for(self.seed, "optimiser", str(counts[0]))
        with (
            torch_seeded(seed, self.parameters[0].device),
            named(f"{self.owner}.optimiser" if self.owner else "optimiser"),
        ):
            self.torch.step()
        for p in self.parameters:
            p.grad = None
