"""Calls of the `credit` of a user's coupling, which may change the tensors it gets, and neither draws random numbers nor keeps a state."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.comms.couplings import Coupling, CreditedMessage
from antiphon.nets.isolation.global_numbers import watched_of_seed
from antiphon.nets.users.kept_state import KeptState


class UsersCredit:
    """The `credit` of a user's coupling, for the messages of a channel."""

    def __init__(self, coupling: Coupling, place: str) -> None:
        self.coupling, self._place = coupling, place
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
