"""Devices: where the numbers live."""

from __future__ import annotations

import torch

from antiphon.errors import ScenarioError

__all__ = ["chosen_device"]


def chosen_device(name: torch.device | str) -> torch.device:
    """Return a device by its name.

    Raises:
        ScenarioError: There is none of this name here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ScenarioError(
            f"device: there is no device '{name}' here; use cpu, or cuda where torch finds one"
        )
    return device
