"""Rows of a sender's port that the pieces of a divided stack of channels carry."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from antiphon.engine.heart.layout import select_rows


class SenderRows:
    """Selects the rows of a sender's port for the pieces of a stack of channels that was divided.

    The rows of all pieces are selected at once, in the order of the whole stack, so that the gradients of a sender that
    sends over several of its channels are summed in the same order as without the division.

    Args:
        senders: The place of each channel's sender, in the order of the whole stack; None: channel k has sender k.
        pieces: The places of a piece's channels in the whole stack, by piece.
        batch: B, the environments of one channel.
    """

    def __init__(self, senders: Tensor | None, pieces: Mapping[str, Tensor], batch: int) -> None:
        self.senders, self.pieces, self.batch = senders, pieces, batch
        self._selected: tuple[Tensor, Tensor] | None = None

    def rows(self, port: Tensor, piece: str) -> Tensor:
        """Return the rows of a piece, [K * B, …]."""
        if self._selected is None or self._selected[0] is not port:
            self._selected = port, select_rows(port, self.senders, self.batch)
        return select_rows(self._selected[1], self.pieces[piece], self.batch)

    def release(self) -> None:
        """Free the graph of the newest port. Only parts have divided stacks, and distributed/parts/boundary.py calls it as a step ends."""
        self._selected = None
