"""Calls of the `credit` of a user's coupling, which may change the tensors it gets, and neither draws random numbers nor keeps a state."""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, first_line
from antiphon.base.mask import ALL, NONE
from antiphon.comms.couplings import Coupling, CreditedMessage
from antiphon.nets.isolation.global_numbers import watched_of_seed
from antiphon.nets.users.kept_state import KeptState, copied_object
from antiphon.nets.users.outlines import outline_of


class UsersCredit:
    """The `credit` of a user's coupling, for the messages of a channel.

    Args:
        zeros: A message of the channel, [rows, size].
    """

    def __init__(self, coupling: Coupling, place: str, zeros: Tensor) -> None:
        self.coupling, self._place, self._zeros = coupling, place, zeros
        self.kept_state, self.was_called = KeptState(coupling, owned=False), False
        self._is_watched = coupling.has_users_credit

    def __call__(self, message: CreditedMessage, step: int) -> Tensor | None:
        """Return the credit of a message, of which a user's method gets copies.

        Raises:
            ScenarioError: It draws random numbers: those of a stack would not be those of its channels alone.
        """
        self.was_called = True
        if not self._is_watched:
            return self.coupling.credit(message, step)
        credit, drew = watched_of_seed(0, partial(self.coupling.credit, message.copied(), step))
        if drew:
            line = f"{type(self.coupling).__name__}.credit draws random numbers, and a credit is of its message and step alone"
            raise ScenarioError(
                f"{self._place}: {line}; draw them once, in __init__, from a torch.Generator with a seed"
            )
        return credit

    def stacking_obstacle(self) -> str | None:
        """Return why the rows of several channels cannot be one call, in one line; None if they can."""
        if not self._is_watched:
            return None
        size, dtype, device = self._zeros.shape[1], self._zeros.dtype, self._zeros.device
        tried = partial(
            _obstacle, self.coupling, size, dtype, "cpu" if device.type == "meta" else str(device)
        )
        return watched_of_seed(0, tried)[0]


@lru_cache(maxsize=64)
def _obstacle(coupling: Coupling, size: int, dtype: torch.dtype, device: str) -> str | None:
    """Try a copy of a coupling on random messages of four rows, whole and in pairs: early and late, small and large."""
    random, probed = torch.Generator().manual_seed(0), copied_object(coupling)
    before = outline_of(probed)
    for scale in (1e-3, 1.0, 1e3):
        rows = (scale * torch.randn(4, 4, size, generator=random, dtype=dtype)).to(device)
        for step in (1, 1_000_000):
            for is_back in (True, False):
                try:
                    together = _tried_credit(probed, rows, step, is_back=is_back)
                    pairs = [_tried_credit(probed, rows[:, i : i + 2], step, is_back=is_back) for i in (0, 2)]
                    if outline_of(probed) != before:
                        return "its credit keeps a state"
                    tolerance = 1e4 * torch.finfo(dtype).eps
                    bound = tolerance * float(together.abs().amax())
                    if not torch.allclose(together, torch.cat(pairs), tolerance, bound, equal_nan=True):
                        return "its credit for a sample depends on the others in its batch"
                except Exception as error:  # noqa: BLE001  (anything a user's coupling may raise)
                    return f"its credit fails on random messages: {first_line(error)}"
    return None


def _tried_credit(coupling: Coupling, rows: Tensor, step: int, *, is_back: bool) -> Tensor:
    """Return the credit of a message of step 0, [rows, size]; None is zeros."""
    sent, now, returned, prediction = rows.clone()
    message = CreditedMessage(
        sent,
        stamp=0,
        tick_period=1,
        returned_gradient=returned if is_back and coupling.uses_returned else None,
        counted=ALL if is_back and coupling.uses_returned else NONE,
        output=now,
        predict_applied=lambda: prediction if coupling.predicts else None,
    )
    credit = coupling.credit(message, step)
    return torch.zeros_like(sent) if credit is None else credit
