"""The worlds of the library, with options under which episodes end soon."""

from typing import Any

import torch

from antiphon import envs

WORLDS: dict[str, dict[str, Any]] = {
    "antiphon/CartPole-v0": {"limit": 20},
    "antiphon/SpeakerListener-v0": {"limit": 9},
    "antiphon/KeyDoor-v0": {"limit": 15, "size": 5},
    "antiphon/CaptureFlag-v0": {"limit": 11},
}


def make(name: str, batch: int = 4, dtype: torch.dtype = torch.float32, **options: Any) -> envs.World:
    made = envs.make({"id": name, **options}, batch=batch, dtype=dtype)
    assert isinstance(made, envs.World)
    return made
