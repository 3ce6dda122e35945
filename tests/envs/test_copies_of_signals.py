"""What an environment returns is the loop's own: changed in place, as `observation -= mean` does, it changes no later step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import envs

SPECS = [
    {"id": "antiphon/CartPole-v0", "limit": 5},
    {"id": "antiphon/SpeakerListener-v0", "limit": 5},
    {"id": "antiphon/Referential-v0"},
    {"id": "antiphon/Digits-v0", "hold": 3},
    {"id": "antiphon/Digits-v0", "hold": 3, "episode": "example"},
    {"id": "antiphon/CountDigits-v0"},
    {"id": "antiphon/Copy-v0"},
    {"id": "tests/Rows-v0", "name": "CartPole-v1", "autoreset": "next_step"},
    {"id": "tests/Rows-v0", "name": "CartPole-v1", "autoreset": "same_step"},
    {"id": "tests/Rows-v0", "name": "CartPole-v1", "autoreset": "disabled"},
]


def values(returned: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors that a step or reset returns, by their place."""
    if isinstance(returned, Tensor):
        return {name: returned}
    parts = returned.items() if isinstance(returned, dict) else enumerate(returned)
    return {place: one for key, part in parts for place, one in values(part, f"{name}/{key}").items()}


@pytest.mark.cases(2)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
def test_a_loop_may_change_what_it_is_given(spec: dict[str, Any]) -> None:
    spoiled, other = (envs.make(spec, batch=3) for _ in range(2))
    returned, wanted = spoiled.reset(seed=1), other.reset(seed=1)
    for _ in range(30):
        for name, value in values(wanted).items():
            assert torch.equal(values(returned)[name], value), name
        for value in values(returned).values():
            value.zero_()
        returned, wanted = spoiled.step(), other.step()
    spoiled.close()
    other.close()
