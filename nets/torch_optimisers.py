"""The door for optimisers of `torch.optim` and users' own, by class or factory; a stack's members take their steps one by one.

| of an optimiser | kept, as in plain torch | refused in one line |
| --- | --- | --- |
| steps | parameters without a gradient stay | those that need a closure, sparse gradients or a graph; warned of where locked agents have one each: those that mix their parameters |
| `train()`, `eval()` | called around evaluations, where it has both | |
| random numbers | those of a user's class are of the run's seed and the number of its step | |
| state | `state_dict`; plain data in groups and attributes (`users/plain_trees.py`) | other objects that change, unless its `state_dict` has them |
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from antiphon.base.copies import copy_with
from antiphon.base.errors import AntiphonError, ScenarioError, first_line, warn_of_scenario, with_article
from antiphon.base.extensions import Catalogue, call_factory, key_of, name_of
from antiphon.nets.clipping import clipped
from antiphon.nets.isolation.global_numbers import of_seed
from antiphon.nets.optimisers import MemberMask, Skip
from antiphon.nets.random import seed_for
from antiphon.nets.user_modules import with_data
from antiphon.nets.users.outlines import ClassChanges, Outlines
from antiphon.nets.users.plain_trees import NotPlainError, from_tree, to_tree

Tree = dict[str, Any]
_SHARE = "share_of_rate"
"""Key of a parameter group whose `lr` its optimiser has changed: the share of the rate, which checkpoints keep."""

_TRIED = 4
"""Steps of two small parameters, of which some estimate a rate at first."""


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
        ScenarioError: The optimiser cannot be made, or its step needs more than gradients; the line begins with the key.
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
        names: Sequence[str] = (),
        owner: str = "",
        seed: int = 0,
    ) -> None:
        self.parameters, self.names, self.owner, self.seed = list(parameters), names, owner, seed
        self.kind, self.options, self.lr, self.clip, self.groups = kind, options, lr, clip, groups
        self.torch = self.make()
        self._shares, self._rate = rate_shares(self.torch, lr), cast("float | Tensor", lr)
        self.members: tuple[TorchOptimiser, ...] = ()
        self.skip: Skip | None = None
        self._checked = False
        parts = () if self.torch is None else _parts(self.torch)
        self._is_users = not all(type(one).__module__.startswith("torch.") for one in parts)
        self._first = None if self.torch is None else _outlines(self.torch)
        if self._first is not None and not self._first.is_whole:
            line = (
                "holds more objects than are compared; what changes in the others is neither seen nor saved"
            )
            warn_of_scenario(f"{name_of(kind)}: {line}")
        self._classes = ClassChanges(*([] if self.torch is None else map(type, _parts(self.torch))))

    @classmethod
    def stacked(cls, optimisers: Sequence[TorchOptimiser], stacks: Sequence[Tensor]) -> TorchOptimiser:
        """Combine the optimisers of a stack's members, in the order of the stacks' first axis, into one."""
        del stacks
        return copy_with(optimisers[0], members=tuple(optimisers))

    def make(self) -> torch.optim.Optimizer | None:
        """Return a new optimiser with these settings, in its initial state; None if it has no parameters."""
        if not self.parameters:
            return None
        rest = [p for p in self.parameters if p.dim() not in self.groups]
        optimisers = [self._optimiser("optimiser", rest, self.kind, self.options, self.lr)] if rest else []
        for position, (axes, settings) in enumerate(self.groups.items()):
            if parameters_with_axes := [p for p in self.parameters if p.dim() == axes]:
                optimisers.append(
                    self._optimiser(f"optimiser.groups.{position}", parameters_with_axes, *settings)
                )
        return optimisers[0] if len(optimisers) == 1 else _Joined(optimisers)

    def _optimiser(
        self, section: str, parameters: list[Tensor], kind: Any, options: Mapping[str, Any], lr: float
    ) -> torch.optim.Optimizer:
        """Return an optimiser of some parameters; `section`: the key path that begins errors."""
        source: Callable[..., Any] = Catalogue("optimiser")[kind] if isinstance(kind, str) else kind
        name = name_of(kind)

        def call(parameters: list[Tensor], options: Mapping[str, Any]) -> Any:
            return call_factory(_over(source, parameters), name, lr=lr, **options)

        def takes(parameters: list[Tensor], options: Mapping[str, Any]) -> bool:
            with suppress(ScenarioError):
                return call(parameters, options) is not None
            return False

        try:
            optimiser = call(parameters, options)
        except ScenarioError as error:
            matrices = [p for p in parameters if p.dim() == 2]
            if len(matrices) < len(parameters) and takes(matrices, options):
                raise ScenarioError(f"{section}: {self._only_matrices(name, parameters)}") from None
            for key in options:
                if takes(parameters, {option: value for option, value in options.items() if option != key}):
                    section = f"{section}.{key}"
                    break
            raise ScenarioError(f"{section}: {error}") from None
        if not isinstance(optimiser, torch.optim.Optimizer):
            raise ScenarioError(
                f"{section}: {name} returned {type(optimiser).__name__}, not a torch.optim.Optimizer; return one of its parameters"
            )
        given = {id(p) for p in parameters}
        # one that steps with copies holds what it is given too, to write into it
        holds = [*_parameters(optimiser), *tree_leaves(vars(optimiser))]
        if not any(id(p) in given for p in holds):
            line = "has none of the parameters that it is given, which a run trains in place of a module's own; make it of these"
            raise ScenarioError(f"{section}: {name} {line}")
        if why := _refused(optimiser):
            raise ScenarioError(f"{section}: {name} {why}")
        if _switches(optimiser):  # a schedule-free optimiser takes steps in this mode only
            switched: Any = optimiser
            with torch.no_grad():
                self.call(switched.train)
        return optimiser

    def call(self, method: Callable[[], Any]) -> None:
        """Call a method of torch's optimiser.

        Raises:
            ScenarioError: It fails; the line names whose it is.
        """
        try:
            method()
        except AntiphonError:
            raise
        except Exception as error:  # noqa: BLE001  (anything a user's optimiser may raise)
            section = f"{self.owner}.optimiser" if self.owner else "optimiser"
            raise ScenarioError(
                f"{section}: {name_of(self.kind)} failed in {method.__name__}(): {first_line(error)}; mend it, or its keys"
            ) from None

    def check_saved(self) -> None:
        """Check that a checkpoint or fork can hold its state.

        Raises:
            ScenarioError: An attribute outside `state_dict` holds what cannot be saved.
        """
        if self.torch is None or self._first is None:
            return
        section = f"{self.owner}.optimiser" if self.owner else "optimiser"
        if self._classes.changed:
            raise ScenarioError(
                f"{section}: {name_of(self.kind)} keeps a state in its class, which its state_dict does not bring back, so the run "
                "cannot be saved or forked; keep it on self"
            )
        if not (held := dict(_not_plain(self.torch))):
            return
        twin = copy.copy(self)
        twin.parameters = [_twin_of(p) for p in self.parameters]
        twin_optimiser = twin.make()
        assert twin_optimiser is not None
        load(twin_optimiser, saved(self.torch))
        loaded, first = dict(_not_plain(twin_optimiser)), self._first
        outlines, outlines_of_twin = _walk(self.torch), _walk(twin_optimiser)
        for name, value in held.items():
            have, want = (outlines_of_twin.of(loaded[name]) if name in loaded else None), outlines.of(value)
            common = (
                outlines.objects.keys() & outlines_of_twin.objects.keys() & first.objects.keys()
            )  # such as a generator in its options
            if have != want or any(first.objects[key] != outlines.objects[key] for key in common):
                raise ScenarioError(
                    f"{section}: {name_of(self.kind)} keeps {with_article(type(value).__name__)} in {name}, which its state_dict does not "
                    "bring back, so the run cannot be saved or forked; keep numbers, text, tensors, or lists and dicts of "
                    "them"
                )

    def _only_matrices(self, name: str, parameters: list[Tensor]) -> str:
        """Return the line about an optimiser such as Muon, which takes parameters with two axes only."""
        refused = next(p for p in parameters if p.dim() != 2)
        index = next(index for index, p in enumerate(self.parameters) if p is refused)
        named = f"'{self.names[index]}'" if self.names else "one"
        fix = f"groups: [{{axes: {refused.dim()}, kind: AdamW}}], or pass a factory that makes groups"
        return f"{name} takes 2D parameters only, and {named} is {list(refused.shape)}; add {fix}"

    def settings(self) -> Tree:
        groups = {axes: (key_of(kind, options), lr) for axes, (kind, options, lr) in self.groups.items()}
        kind = (key_of(self.kind, self.options), *groups.items())
        return {"kind": kind, "lr": self.lr, "clip": self.clip}

    @property
    def state(self) -> dict[str, list[Any]]:
        """Its state as data, without copying: torch's `state_dict`, with strings as keys."""
        return {"torch": [] if self.torch is None else [saved(self.torch)]}

    def initial_state(self) -> dict[str, list[Any]]:
        optimiser = self.make()
        return {"torch": [] if optimiser is None else [saved(optimiser)]}

    def load(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Load a copy of a state; ScenarioError if the optimiser rejects it."""
        optimiser = self.torch

        def load_state_dict() -> None:
            if optimiser is not None:
                load(optimiser, state["torch"][0])

        self.call(load_state_dict)

    def tensors(self) -> Iterator[Tensor]:
        for optimiser in self.members or (self,):
            yield from (leaf for leaf in tree_leaves(optimiser.state) if isinstance(leaf, Tensor))

    def expected(self) -> Sequence[Tensor]:
        """Return tensors of the estimated size of its state: two per parameter, as for Adam."""
        return [*self.parameters, *self.parameters]

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
                addresses = [p.data_ptr() for p in member.parameters]
                member.step([None if g is None else g[n] for g in gradients], rates[n], None, [counts[n]])
                if not self._checked and addresses != [p.data_ptr() for p in member.parameters]:
                    raise ScenarioError(
                        f"optimiser: {name_of(member.kind)} replaces its parameters' memory; change them in place"
                    )
        self._checked = True
        if not self.members and self.torch is not None:
            self._step(gradients, rate, counts[0])

    def _step(self, gradients: Sequence[Tensor | None], rate: float | Tensor, count: int) -> None:
        assert self.torch is not None
        if self.clip is not None and self.clips:
            short = iter(clipped([g for g in gradients if g is not None], self.clip))
            gradients = [None if g is None else next(short) for g in gradients]
        self.follow(rate)
        for p, g in zip(self.parameters, gradients, strict=True):
            p.grad = g
        if self._is_users:
            of_seed(seed_for(self.seed, "optimiser", str(count)), self.take, self.parameters[0].device)
        else:
            self.take()
        for p in self.parameters:
            p.grad = None

    def follow(self, rate: float | Tensor) -> None:
        """Set `lr` of each group to its share of a rate: the initial share, or the one that the optimiser has given itself."""
        assert self.torch is not None
        self._rate = rate
        for group, share in zip(self.torch.param_groups, self._shares, strict=True):
            group["lr"] = rate * group.get(_SHARE, share)

    def take(self) -> None:
        """Take the step of torch's optimiser along the parameters' `grad`; an `lr` that it changes stays so, see `follow`.

        Raises:
            ScenarioError: It fails; the line names whose it is.
        """
        assert self.torch is not None
        rates = [group["lr"] for group in self.torch.param_groups]
        with self._classes.seen():
            self.call(self.torch.step)
        for group, rate in zip(self.torch.param_groups, rates, strict=True):
            if group["lr"] is not rate and group["lr"] != rate and self._rate:
                group[_SHARE] = float(group["lr"] / self._rate)


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


@contextmanager
def for_evaluation(optimisers: Sequence[Any]) -> Iterator[None]:
    """Switch schedule-free optimisers to the weights to be evaluated by their `eval()`, and back by `train()`.

    The parameters have the same bits after as before. Without a step yet there is nothing to switch.
    """
    switching: list[tuple[TorchOptimiser, Any]] = [
        (owner, optimiser)
        for owner in optimisers
        if isinstance(owner, TorchOptimiser)
        if owner.torch is not None
        for optimiser in _parts(owner.torch)
        if _switches(optimiser) and any(optimiser.state.values())
    ]
    before = [(p, p.data.clone()) for owner, _ in switching for p in owner.parameters]
    try:
        with torch.no_grad():
            for owner, optimiser in switching:
                owner.call(optimiser.eval)
        yield
    finally:
        with torch.no_grad():
            for owner, optimiser in switching:
                owner.call(optimiser.train)
            for p, values in before:  # which a way there and back may round
                p.copy_(values)


def _parts(optimiser: torch.optim.Optimizer) -> tuple[torch.optim.Optimizer, ...]:
    """The optimisers of a joined one, or the one."""
    return optimiser.parts if isinstance(optimiser, _Joined) else (optimiser,)


def _switches(optimiser: Any) -> bool:
    return all(callable(getattr(optimiser, name, None)) for name in ("train", "eval"))


_OF_TORCH = frozenset(
    {
        *("defaults", "state", "param_groups", "parts"),
        *("_need_device_dtype_check_for_fused", "_opt_called", "_step_count", "_step_supports_amp_scaling"),
        *("_warned_capturable_if_run_uncaptured", "_zero_grad_profile_name"),
    }
)
"""Attributes of optimisers that torch writes itself; its hooks are dicts that `_optimizer_` begins."""


_KEYS = ("state", "param_groups")
"""Keys of torch's `state_dict`."""


def _attributes(optimiser: torch.optim.Optimizer, *, state: bool = False) -> Tree:
    """Return the attributes that a user's optimiser adds to torch's; `state`: with groups and state."""
    also = _KEYS if state else ()
    return {
        name: value
        for name, value in vars(optimiser).items()
        if name in also or (name not in _OF_TORCH and not name.startswith("_optimizer_"))
    }


def _walk(optimiser: torch.optim.Optimizer) -> Outlines:
    return Outlines(
        _parameters(optimiser),
        lambda held: _attributes(held, state=True) if isinstance(held, torch.optim.Optimizer) else vars(held),
    )


def _outlines(optimiser: torch.optim.Optimizer) -> Outlines:
    """Return the outlines of what an optimiser holds beside plain data."""
    walk = _walk(optimiser)
    for _, value in _not_plain(optimiser):
        walk.of(value)
    return walk


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _plain(items: Mapping[str, Any], parameters: Sequence[Tensor]) -> tuple[Tree, Tree]:
    """Return the trees of items that are plain data, and the other items."""
    trees: Tree = {}
    for name, value in items.items():
        with suppress(NotPlainError):
            trees[name] = to_tree(value, parameters)
    return trees, {name: value for name, value in items.items() if name not in trees}


def _not_plain(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """Yield what an optimiser holds beside plain data: a name, such as self.noise, and the object."""
    parameters = _parameters(optimiser)
    for inner in _parts(optimiser):
        for name, value in _plain(_attributes(inner), parameters)[1].items():
            yield f"self.{name}", value
    for index, group in enumerate(optimiser.param_groups):
        options = _plain({name: value for name, value in group.items() if name != "params"}, parameters)[1]
        for name, value in options.items():
            yield f"self.param_groups[{index}]['{name}']", value
    for index, held in enumerate(optimiser.state.values()):
        for name, value in _plain(held, parameters)[1].items() if isinstance(held, dict) else ():
            yield f"self.state[{index}]['{name}']", value


def _twin_of(parameter: Tensor) -> Tensor:
    values = parameter.data.clone()
    if isinstance(parameter, nn.Parameter):
        return with_data(parameter, values)
    return values.requires_grad_(parameter.requires_grad)


def _refused(optimiser: torch.optim.Optimizer) -> str:
    """Return why an optimiser cannot take a step from dense gradients alone, and the fix; empty if it can."""
    if hasattr(optimiser.step, "_wrapped_by_lr_sched"):
        return (
            "has a scheduler of torch.optim.lr_scheduler, whose count no checkpoint would have; give schedule: a kind, or a "
            "function of the step such as LambdaLR's lr_lambda"
        )
    try:
        inspect.signature(optimiser.step).bind()
    except TypeError:
        return "needs a closure in step() that computes the loss again, which no agent has; use another, such as AdamW"
    except ValueError:  # of some built-in callables no signature is known
        pass
    if isinstance(optimiser, torch.optim.SparseAdam):
        return "takes sparse gradients only, and all are dense; use another, such as Adam"
    if not all("lr" in group for group in optimiser.param_groups):
        return "has a parameter group without 'lr', by which a run sets the rate of each step; give Optimizer.__init__ the default lr"
    if any(group.get("differentiable") for group in optimiser.param_groups):
        return "has differentiable=True, and no step of a run keeps a graph; leave it out"
    return ""


def _over(source: Callable[..., Any], parameters: list[Tensor]) -> Callable[..., Any]:
    """A factory of which only the keyword arguments are open."""

    def with_parameters(**arguments: Any) -> Any:
        return source(parameters, **arguments)

    return with_parameters


def rate_shares(optimiser: torch.optim.Optimizer | None, base: float) -> list[float]:
    """Return the learning rates of an optimiser's groups as shares of its initial rate."""
    return [] if optimiser is None else [group["lr"] / base for group in optimiser.param_groups]


def saved(optimiser: torch.optim.Optimizer) -> Tree:
    """Return an optimiser's state as a tree with strings as keys, without copying tensors; what is not plain is left out."""
    state, parameters = optimiser.state_dict(), _parameters(optimiser)
    attributes = [_plain(_attributes(inner), parameters)[0] for inner in _parts(optimiser)]
    more = _plain({key: value for key, value in state.items() if key not in _KEYS}, parameters)[0]
    held = {
        str(key): _plain(value, parameters)[0] if isinstance(value, dict) else value
        for key, value in state.get("state", {}).items()
    }
    groups = [_plain(group, parameters)[0] for group in state.get("param_groups", [])]
    tree: Tree = {"state": held, "param_groups": groups}
    return tree | ({"attributes": attributes} if any(attributes) else {}) | ({"more": more} if more else {})


def load(optimiser: torch.optim.Optimizer, tree: Mapping[str, Any]) -> None:
    """Load a copy of a state from `saved`; entries that it leaves out keep their initial values."""
    present, parameters = optimiser.state_dict(), _parameters(optimiser)
    groups = [
        {
            **{name: value for name, value in group_now.items() if name != _SHARE},
            **{name: _like(group_now.get(name), value, parameters) for name, value in group.items()},
        }
        for group_now, group in zip(present.get("param_groups", []), tree["param_groups"], strict=True)
    ]
    state = {
        int(key) if key.isdecimal() else key: from_tree(value, parameters)
        for key, value in tree["state"].items()
    }
    for inner, attributes in zip(_parts(optimiser), tree.get("attributes", []), strict=False):
        for name, value in attributes.items():
            setattr(inner, name, _like(getattr(inner, name, None), value, parameters))
    more = {key: from_tree(value, parameters) for key, value in tree.get("more", {}).items()}
    state_dict = {**more, "state": state, "param_groups": groups}
    state_dict = {key: value for key, value in state_dict.items() if key in more or key in present}
    optimiser.load_state_dict(state_dict)
    for index, p in enumerate(parameters):
        if index in state and p in optimiser.state:  # torch turns tensors into its type, NAdam's products too
            optimiser.state[p] = state[index]


def _like(present: Any, value: Any, parameters: Sequence[Tensor]) -> Any:
    """The value of a tree; in older files lists stand for tuples."""
    value_of_tree = from_tree(value, parameters)
    return tuple(value_of_tree) if type(present) is tuple and type(value_of_tree) is list else value_of_tree
