"""Devices that torch can compute on here."""

from __future__ import annotations

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
