"""Couplings: from what the sender of a channel learns."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import ChannelSpec

LOCAL = {"kind": "local", "target": "label"}
SOBOLEV = {"kind": "sobolev_label", "target": "label"}
LOST: dict[str, Any] = {"link": {"drop": 1}}
STANDS_IN: dict[str, Any] = {**LOST, "input": "linear"}


@pytest.mark.parametrize(
    ("name", "keys", "returns", "alone"),
    [
        ("locked", {}, True, False),
        ("delayed", {}, True, False),
        ("delayed", LOST, False, False),
        ("detached", {}, False, False),
        ("decoupled", {}, True, False),
        ("decoupled", {"gradient": {"scale": 0}}, True, False),
        ("decoupled", {"gradient": {"scale": 0, "discount": 0}}, False, False),
        ("decoupled", {"gradient": LOCAL}, False, True),
        ("decoupled", {"gradient": LOCAL, **LOST}, False, True),
        ("decoupled", {"gradient": SOBOLEV}, True, True),
        ("decoupled", {"gradient": SOBOLEV, **LOST}, False, False),
        ("decoupled", STANDS_IN, True, False),
        ("unlocked", STANDS_IN, True, False),
    ],
)
def test_what_the_sender_learns_from(name: str, keys: dict[str, Any], returns: bool, alone: bool) -> None:
    """`returns`: from gradients that the receiver returns; `alone`: although it may return nothing."""
    channel = ChannelSpec.model_validate({"from": "a", "to": "b", "coupling": name, **keys})
    assert channel.credits_from_receiver is returns
    assert channel.credits_alone is alone
