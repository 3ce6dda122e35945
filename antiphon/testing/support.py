"""What the conformance checks have in common: numbers, and calls of a user's functions that are watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.comms.backward_requests import constant
from antiphon.errors import ScenarioError
from antiphon.nets.modules import IncomparableError, described

__all__ = ["NO_OPTIONS", "checked_call", "description_of", "made_or_refused", "require", "some"]

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def require(holds: bool, problem: str) -> None:
    """Raise AssertionError with the problem unless something holds."""
    if not holds:
        raise AssertionError(problem)


def some(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Return numbers between -1 and 1, the same for equal shapes and seeds."""
    return (
        torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        .mul(2)
        .sub(1)
        .to(dtype)
    )


def made_or_refused(name: str, make: Callable[[], Any]) -> Any:
    """Return what a user's factory makes; AssertionError where it cannot."""
    try:
        return make()
    except ScenarioError as error:
        raise AssertionError(str(error)) from None
    except Exception as error:  # noqa: BLE001  (anything a user's factory may raise)
        raise AssertionError(f"{name}: it cannot be made: {line_of(error)}") from None


def checked_call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a user's function, whose tensors are not changed and which draws no random numbers."""
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    before = [constant(value).clone() for value in tensors]
    state = torch.get_rng_state()
    try:
        found = function(*arguments)
    except ScenarioError as error:
        raise AssertionError(str(error)) from None
    except Exception as error:  # noqa: BLE001  (anything a user's function may raise)
        raise AssertionError(f"{name} fails: {line_of(error)}") from None
    require(torch.equal(torch.get_rng_state(), state), f"{name}: it draws from the global random numbers")
    kept = all(torch.equal(constant(now), then) for now, then in zip(tensors, before, strict=True))
    require(kept, f"{name}: it changes what it is given in place")
    return found


def description_of(module: nn.Module | None) -> Any:
    """Return what a module is, without its numbers; None where that cannot be said."""
    try:
        return None if module is None else described(module)
    except IncomparableError:
        return None


def line_of(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
