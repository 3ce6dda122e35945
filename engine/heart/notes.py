"""What is kept between steps: a saved state has every field of it that does not say `AGAIN`; and notes of features.

So a fork, a checkpoint and the cut of a stack have a new field without a word. A tensor has rows, [rows, …]: a stack is cut
by them. What has members or parameters instead, such as a sum of gradients, is the learner's (nets/optimisers.py), and a
number is the same for all members.

Notes are what features keep with a tick, an agent or a window's losses, and the step itself does not read: a dataclass of
the feature's own, by its name in the table of engine/state/trees.py.
"""

from __future__ import annotations

from copy import copy
from typing import Protocol, Self, cast

AGAIN = {"again": True}
"""Of a field that no saved state has by itself: it can be made again of the others, or is part of what keeps it."""


class Note:
    """Data that a feature keeps with an object, which has one note of a class at most."""

    __slots__ = ()

    @classmethod
    def of(cls, noted: Noted) -> Self | None:
        """The note of this class that an object has; None: it has none."""
        return cast("Self | None", noted.notes.get(cls))

    @classmethod
    def ensure(cls, noted: Noted) -> Self:
        """The note of this class of an object, which is made where it has none yet."""
        note = noted.notes.get(cls)
        if note is None:
            note = noted.notes[cls] = cls()
        return cast("Self", note)


Notes = dict[type[Note], Note]
"""The notes of an object, by class."""


class Noted(Protocol):
    """An object that has notes."""

    notes: Notes


def copied_notes(notes: Notes) -> Notes:
    """Return notes that change apart from these, of the same tensors."""
    return {note_class: copy(note) for note_class, note in notes.items()}
