"""Devices: those that torch can compute on here."""

from __future__ import annotations

import torch

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest

_GPU = ("gpu", "cuda", "nvidia")
"""Names that begin so are meant for a GPU."""


_OF_RUNS = ("cpu", "cuda")
"""Types of devices that a run may have."""


def chosen_device(name: torch.device | str) -> torch.device:
    """Return a run's device by its name; ScenarioError where there is none of it here."""
    device = existing_device(name)
    if device.type not in _OF_RUNS:
        raise _missing(name)
    return device


def existing_device(name: torch.device | str) -> torch.device:
    """Return a device of any type by its name; ScenarioError where torch cannot compute on it here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError):
        raise _missing(name) from None
    return device


def _missing(name: object) -> ScenarioError:
    return ScenarioError(f"device: no device '{name}'{_fix(str(name).lower())}")


def _fix(name: str) -> str:
    """Return the devices that there are; for a GPU, how it is called, or that there is none."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.startswith(_GPU):
        if not count:
            called = "" if name.startswith("cuda") else ": a GPU is called 'cuda'"
            return f"{called}; torch finds no GPU on this machine, use 'cpu'"
        if not name.startswith("cuda"):
            return "; did you mean 'cuda'?"
    return suggest("", ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))])
