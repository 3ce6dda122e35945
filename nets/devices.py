"""Devices that torch can compute on here, and its precision of matrix products."""

from __future__ import annotations

from contextlib import suppress

import torch

from antiphon.base.errors import ScenarioError, first_line


def chosen_device(name: torch.device | str) -> torch.device:
    """Return a run's device by its name, cpu or cuda; ScenarioError where torch cannot compute on it here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise ScenarioError(
            f"device: no device '{name}' ({first_line(error)}); use 'cpu' or 'cuda'"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ScenarioError(f"device: '{name}'; use 'cpu' or 'cuda'")
    return device


def matmul_precision() -> str | None:
    """Return torch's precision of float32 matrix products in this process; None where it has no name for what is set."""
    with suppress(RuntimeError):
        return torch.get_float32_matmul_precision()
    return None


def set_matmul_precision(precision: str | None) -> None:
    """Set torch's precision of float32 matrix products in this process; None: it stays."""
    if precision is not None:
        torch.set_float32_matmul_precision(precision)
