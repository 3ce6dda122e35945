"""States as bytes."""

from __future__ import annotations

import torch

from antiphon import RunError
from antiphon.engine.state.wire import from_bytes, to_bytes
from tests.engine.numbers import one_line


def test_a_state_whose_keys_are_no_text_is_refused() -> None:
    """As text they would come back to the environment that gave them."""
    with one_line(r"a state has the key 0; the keys of a `state_dict` must be strings", RunError):
        to_bytes({"world": {0: torch.ones(2)}})
    kept = {"world": [1, {"at": torch.ones(2)}]}
    back = from_bytes(to_bytes(kept))
    assert back["world"][0] == 1
    assert torch.equal(back["world"][1]["at"], torch.ones(2))
