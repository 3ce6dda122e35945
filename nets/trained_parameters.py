"""Named parameters with running statistics and an optimiser, for one network or predictor, or stacked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from antiphon.base.call_errors import call_error
from antiphon.base.errors import ScenarioError
from antiphon.base.mask import ALL, Mask, Members
from antiphon.base.tools import copy_with
from antiphon.nets.isolation.global_numbers import of_seed
from antiphon.nets.native.mlp import fused_step
from antiphon.nets.optimiser_kinds import Numbers, UpdateCall
from antiphon.nets.optimisers import Optimiser
from antiphon.nets.per_member import PerMember
from antiphon.nets.random import seed_for
from antiphon.nets.schedules import Rate
from antiphon.nets.stacked_optimiser import StackedOptimiser
from antiphon.nets.step_numbers import learning_rate
from antiphon.nets.torch_optimisers import TorchOptimiser
from antiphon.nets.user_modules import as_real, kept_types, with_data
from antiphon.nets.whole_lines import padded_zeros

AnyOptimiser = Optimiser | TorchOptimiser
Evaluated = TypeVar("Evaluated")


def _optimiser(
    parameters: Mapping[str, Tensor], owner: str, seed: int, settings: Mapping[str, Any]
) -> AnyOptimiser:
    """An optimiser of antiphon's kinds, or where there are `options` one of torch's or a user's."""
    tensors = list(parameters.values())
    if "options" in settings:
        return TorchOptimiser(tensors, owner=owner, seed=seed, **settings)
    return Optimiser(parameters=[as_real(tensor) for tensor in tensors], **settings)


@torch.no_grad()
def _copied(p: Tensor) -> Tensor:
    return with_data(p, p.data.clone()) if isinstance(p, nn.Parameter) else p.clone()


def _placed(tensor: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """A tensor on a device; zeros of one without memory, where the device has some. Of a parameter, a parameter."""
    if isinstance(tensor, nn.Parameter):
        data = _placed(tensor.data, device, dtype)
        if data.is_meta != tensor.is_meta:
            return with_data(tensor, data)
        tensor.data = data
        return tensor
    if tensor.is_meta and torch.device(device).type != "meta":
        return torch.zeros_like(tensor, device=device, dtype=dtype)
    return tensor.to(device=device, dtype=dtype)


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}".strip(".")


class TrainedParameters:
    """Named parameters with running statistics and an optimiser, or N members stacked [N, …].

    The members' parameters are views of their stack's. Running statistics and update counts are not: the stack keeps its
    own until `write_members`.

    Args:
        parameters: Initial parameters, by name; of those without memory (torch's meta device), zeros until a state is loaded.
        optimiser: Kind and settings, see `Optimiser`; with `options`, see `TorchOptimiser`.
        frozen: Whether the parameters are constant; gradients still pass through.
        owner: Who is trained, such as `agents.eye`, for errors.
        seed: Of the random numbers that a user's optimiser, and hooks of accumulated gradients, draw.
        modules: The users' modules, by the prefix of their tensors' names: these keep other types than the module's own.

    Attributes:
        bf16: Whether it is evaluated under autocast to bfloat16; parameters, results and gradients have type `dtype`.
        parameters: The parameters; change those in a stack in place only.
        has_hooks: Whether a window's gradients are not all: hooks follow them, or a user's module may leave some (`through_hooks`).
        updates: Optimiser steps taken; in a stack, by any of its members.
        members: The members of a stack; empty if it is not a stack.
        steps_taken: In a stack, [N]: optimiser steps taken since the members' own counts were written.
    """

    bf16 = False

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *,
        optimiser: dict[str, Any],
        rate: Rate,
        frozen: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        owner: str = "",
        seed: int = 0,
        modules: Mapping[str, nn.Module] = MappingProxyType({}),
    ) -> None:
        self.rate = rate
        self.frozen = frozen
        self.owner, self.seed = owner, seed
        self._called = ", ".join(
            type(getattr(module, "module", module)).__name__ for module in modules.values()
        )
        self.updates = 0
        self.members: tuple[TrainedParameters, ...] = ()
        self.steps_taken = torch.zeros(0, dtype=torch.int64)
        keep_their_type = {
            _dotted(prefix, name) for prefix, module in modules.items() for name in kept_types(module)
        }

        def of_type(name: str, tensor: Tensor) -> torch.dtype:
            return dtype if tensor.is_floating_point() and name not in keep_their_type else tensor.dtype

        self.parameters: dict[str, Tensor] = {
            name: _placed(
                p, device, dtype.to_complex() if p.is_complex() else of_type(name, p)
            ).requires_grad_(not frozen)
            for name, p in parameters.items()
        }
        self.buffers: dict[str, Tensor] = {
            name: _placed(b, device, of_type(name, b)) for name, b in buffers.items()
        }
        self._complex = any(p.is_complex() for p in self.parameters.values())
        self.has_hooks = bool(modules) or any(p._post_accumulate_grad_hooks for p in self.parameters.values())
        self.trainable = [] if frozen else list(self.parameters.values())
        prefixes = tuple(_dotted(prefix, "") for prefix in modules)
        self._stays = [name.startswith(prefixes) for name in self.parameters]
        self.optimiser = _optimiser({} if frozen else self.parameters, owner, seed, optimiser)

    @classmethod
    def stacked(cls, members: Sequence[Self]) -> Self:
        """Stack N of one kind; all other settings and the names are the first member's.

        Members correspond by the order of their parameters and statistics.
        """
        parameters: dict[str, Tensor] = {}
        parameters_by_member = [list(member.parameters.values()) for member in members]
        for name, *tensors in zip(members[0].parameters, *parameters_by_member, strict=True):
            with torch.no_grad():
                stack = torch.stack(
                    tensors,
                    out=padded_zeros(
                        (len(tensors), *tensors[0].shape),
                        tensors[0].data,
                    ),
                )
            for p, view in zip(tensors, stack.unbind(), strict=True):
                p.data = view
            parameters[name] = stack.requires_grad_(tensors[0].requires_grad)
        trainable = [] if members[0].frozen else list(parameters.values())
        optimisers: list[Any] = [member.optimiser for member in members]
        stack_of = (
            TorchOptimiser.stacked if isinstance(optimisers[0], TorchOptimiser) else StackedOptimiser.of
        )
        stacked_parameters = copy_with(
            members[0],
            members=tuple(members),
            parameters=parameters,
            trainable=trainable,
            has_hooks=False,
            optimiser=stack_of(optimisers, trainable),
            updates=0,
            steps_taken=torch.zeros(len(members), dtype=torch.int64),
        )
        stacked_parameters.read_members()
        return stacked_parameters

    def as_frozen(self) -> Self:
        """Return one with the same parameters as constants, which is evaluated as after training.

        Users' modules have copies of theirs: a call may write to them, as `max_norm` of an embedding does.
        """
        numbers = zip(self.parameters.items(), self._stays, strict=True)
        parameters = {name: _copied(p) if is_users else p for (name, p), is_users in numbers}
        return copy_with(self, frozen=True, parameters=parameters)

    def with_tensors(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor] | None = None) -> Self:
        """Return one that is evaluated with other parameters and running statistics (None: its own), and not trained."""
        return copy_with(
            self,
            parameters=parameters,
            trainable=[],
            buffers=self.buffers if buffers is None else buffers,
        )

    @contextmanager
    def evaluated_with(self, parameters: dict[str, Tensor]) -> Iterator[None]:
        before, self.parameters = self.parameters, parameters
        try:
            yield
        finally:
            self.parameters = before

    def learn_at(self, rate: Rate) -> None:
        self.rate = rate

    def rate_at(self, step: int) -> PerMember:
        """Return the learning rate of the optimiser step taken at `step`: optimisers, metrics and errors ask here."""
        return self.rate(step)

    def stop_learning(self) -> None:
        self.trainable = []

    def put_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Put running statistics in place of those of the same names, in a new dictionary: what is noted of a step keeps the old."""
        self.buffers = {**self.buffers, **statistics}

    def evaluated(self, function: Callable[..., Evaluated], *inputs: Any, **settings: Any) -> Evaluated:
        """Return the result of a function of an input, the parameters and the statistics, in this object's precision.

        Running statistics, which a function returns second as it takes them second, keep their types.

        Raises:
            CallError: A user's module, or function, fails; the line names whose it is.
        """
        if not self.bf16:
            return self._named(function, *inputs, **settings)
        device = next(iter(self.parameters.values())).device
        with torch.autocast(device.type, torch.bfloat16):
            result: Any = self._named(function, *inputs, **settings)
        values, *statistics = result if isinstance(result, tuple) else (result,)
        full: Any = tree_map_only(Tensor, lambda t: t.float() if t.is_floating_point() else t, values)
        if not statistics:
            return full  # type: ignore[no-any-return]
        (after,), before = statistics, inputs[1]
        return full, {name: b.to(before[name].dtype) for name, b in after.items()}  # type: ignore[return-value]

    def _named(self, function: Callable[..., Evaluated], *inputs: Any, **settings: Any) -> Evaluated:
        """Call what is, or may call, a user's object; CallError where that fails."""
        try:
            return function(*inputs, **settings)
        except ScenarioError as error:
            raise ScenarioError(f"{self.owner}: {error}".removeprefix(": ")) from error
        except Exception as error:
            line = call_error(error, self.owner, self._called)
            if line is None:
                raise
            raise line from error

    def counts(self) -> list[int]:
        """Return the optimiser steps of each member; without members a list with one count."""
        if not self.members:
            return [self.updates]
        return [member.updates + n for member, n in zip(self.members, self.steps_taken.tolist(), strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a fork or checkpoint, without copying; for a stack use its members."""
        return {
            "parameters": dict(self.parameters),
            "buffers": dict(self.buffers),
            "optimiser": {name: list(tensors) for name, tensors in self.optimiser.state.items()},
            "updates": self.updates,
        }

    def through_hooks(self, gradients: Sequence[Tensor | None], *window: str) -> Sequence[Tensor | None]:
        """Return gradients, in the order of `trainable`, added to those that a user's module has left, as `backward` adds them.

        A module leaves gradients where its forward goes back from a loss of its own. Hooks for accumulated gradients follow. Where
        there are none of either, the sequence itself is returned.

        Args:
            window: What tells the window from others that are learned before the next update, for what hooks draw.

        Raises:
            CallError: A hook fails.
        """
        if not self.has_hooks or all(
            p.grad is None and not p._post_accumulate_grad_hooks for p in self.trainable
        ):
            return gradients
        seed, device = seed_for(self.seed, "hooks", str(self.updates), *window), self.trainable[0].device
        of_seed(seed, partial(self._accumulate, gradients), device)
        after = [p.grad for p in self.trainable]
        for p in self.trainable:
            p.grad = None
        return after

    @torch.no_grad()
    def _accumulate(self, gradients: Sequence[Tensor | None]) -> None:
        """Add gradients to the parameters' `grad`, and call the hooks that follow."""
        for p, gradient in zip(self.trainable, gradients, strict=True):
            if gradient is None:
                continue
            p.grad = gradient if p.grad is None else p.grad + gradient
            for hook in list((p._post_accumulate_grad_hooks or {}).values()):
                self._named(hook, p)

    def filled(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return gradients, in the order of `trainable`, with zeros where none reaches a network of antiphon's own.

        All of its heads are used at every tick, and whether a gradient is missing or zero depends on the backend. A parameter of a
        user's module without a gradient (None) stays as it is, as with torch's optimisers.

        Args:
            gradients: Gradients; None where there is none.
        """
        return [
            torch.zeros_like(p) if gradient is None and not stays else gradient
            for p, gradient, stays in zip(self.trainable, gradients, self._stays, strict=False)
        ]

    def moves_by(self, gradients: Sequence[Tensor | None], *, further: bool) -> bool:
        """Return whether a step by these gradients moves a parameter: one has a gradient, or is given zeros (`filled`)."""
        return any(g is not None for g in gradients) or not (further or all(self._stays))

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, p in self.parameters.items():
            p.copy_(state["parameters"][name])
        for name, b in self.buffers.items():
            saved = state["buffers"][name]
            if saved is not b:  # its own state is loaded where a reference shares it
                self.buffers[name] = saved.to(b).clone()
        self.optimiser.load(state["optimiser"])
        self.updates = state["updates"]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], now: int, member_mask: Mask[Members] = ALL) -> None:
        """Take one optimiser step.

        Args:
            gradients: In the order of `trainable`; where one is None, see `filled`.
        """
        take_optimiser_steps([(self, gradients, member_mask)], now)

    def begin_step(
        self,
        gradients: Sequence[Tensor | None],
        now: int,
        member_mask: Mask[Members],
        *,
        further: bool,
    ) -> list[tuple[UpdateCall, Numbers]]:
        """Count a step, and return the kernel's calls that take it, which others may share; empty where it shares none and is taken.

        Arguments: see `take_optimiser_steps`.
        """
        self.updates += 1
        # Fused kernels count no change: to go back through a graph of before the step is an error, as with torch's optimisers.
        if any(self._stays):
            torch.autograd.graph.increment_version(self.trainable)
        if not further and any(gradient is None for gradient in gradients):
            gradients = self.filled(gradients)
        moving = (
            None if member_mask is ALL else member_mask.tensor(len(self.members), self.steps_taken.device)
        )
        if self.members:
            self.steps_taken += 1 if moving is None else moving.long()
        if self.rate.constant or not self.trainable:
            rate: Any = self.rate.base
        elif isinstance(self.rate.base, Tensor):
            rate = self.rate_at(now)
        else:
            rate = learning_rate(self.rate_at, now, self.trainable[0].device)
        optimiser = self.optimiser
        if not isinstance(optimiser, Optimiser):
            optimiser.step(gradients, rate, moving, self.counts())
            return []
        if self._complex:
            gradients = [None if g is None else as_real(g) for g in gradients]
        elif isinstance(optimiser, StackedOptimiser) and fused_step(gradients, optimiser, rate, moving):
            return []
        return optimiser.calls(gradients, rate, moving)

    def read_members(self) -> None:
        """Stack the members' running statistics and counts again, after a state was loaded into them."""
        buffers_by_member = [list(member.buffers.values()) for member in self.members]
        names = self.members[0].buffers
        self.buffers = {
            name: torch.stack(tensors) for name, *tensors in zip(names, *buffers_by_member, strict=True)
        }
        self.steps_taken.zero_()
        if isinstance(self.optimiser, StackedOptimiser):
            self.optimiser.refresh()

    def write_members(self) -> None:
        """Write running statistics and counts of updates to the members; their parameters are views."""
        split = [self.buffers[name].unbind() for name in self.members[0].buffers]
        for n, (member, steps_taken) in enumerate(zip(self.members, self.steps_taken.tolist(), strict=True)):
            member.follow_stack([buffers_by_member[n] for buffers_by_member in split], steps_taken)
        self.steps_taken.zero_()

    def follow_stack(self, buffers: Sequence[Tensor], steps_taken: int) -> None:
        """Take over a member's own of the stack's running statistics, in order, and the optimiser steps it has taken there."""
        self.buffers = dict(zip(self.buffers, buffers, strict=True))
        self.updates += steps_taken

    def load_counts(self, updates: int, steps_taken: Sequence[int]) -> None:
        self.updates, self.steps_taken = updates, torch.tensor(steps_taken, dtype=torch.int64)

    def restore_buffers(self, member_mask: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Set the running statistics of members, `member_mask` [N] bool, back to `buffers`."""
        self.buffers = {
            name: torch.where(member_mask.view(-1, *[1] * (stack.dim() - 1)), buffers[name], stack)
            for name, stack in self.buffers.items()
        }


@torch.no_grad()
def take_optimiser_steps(
    steps: Sequence[tuple[TrainedParameters, Sequence[Tensor | None], Mask[Members]]],
    now: int,
    *,
    further: bool = False,
) -> None:
    """Take the steps of several, each with its gradients and members; equal settings and numbers share one kernel call.

    Args:
        further: Whether every parameter without a gradient stays, as in a further pass; else see `TrainedParameters.filled`.
    """
    calls: dict[Hashable, list[tuple[Any, UpdateCall, Numbers]]] = {}
    for position, (owner, gradients, member_mask) in enumerate(steps):
        for call, numbers in owner.begin_step(gradients, now, member_mask, further=further):
            optimiser: Any = owner.optimiser
            key = ("apart", position) if isinstance(numbers[0], Tensor) else (optimiser.key, numbers)
            calls.setdefault(key, []).append((optimiser, call, numbers))
    for calls_together in calls.values():
        optimiser, _, numbers = calls_together[0]
        optimiser.run([call for _, call, _ in calls_together], numbers)
