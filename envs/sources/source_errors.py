"""Errors that a user's loader, data set or sampler raises, as one line that names where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from antiphon.base.errors import AntiphonError, DataError, first_line
from antiphon.base.memory import was_refused

_OF_WORKER = "Original Traceback (most recent call last):"
"""What torch writes of an error in a worker's process, before the error itself in the last lines."""
_FIXES = {
    "default_collate: batch must contain tensors": "make tensors in the data set, such as by transform=torchvision.transforms."
    "PILToTensor() of pictures, or pass it to from_dataset",
    "stack expects each tensor to be equal size": "make them equal, or give the DataLoader a collate_fn that pads them",
}
"""What to do about errors of torch's `collate_fn`, by their beginnings."""


@contextmanager
def reading(where: str, subject: str) -> Iterator[None]:
    """Raise an error of a user's object as a DataError of one line; errors of antiphon and refused memory as they are.

    Args:
        where: What is read, for the error.
        subject: Name of the object.
    """
    try:
        yield
    except AntiphonError:
        raise
    except Exception as error:
        if was_refused(error):
            raise
        line = _line_of(error)
        fix = next((f"; {fix}" for beginning, fix in _FIXES.items() if beginning in line), "")
        raise DataError(f"{where}: {subject} failed: {line}{fix}") from error


def _line_of(error: Exception) -> str:
    """Return the kind and first line of an error; of one in a worker's process, those of its cause."""
    text = str(error)
    if _OF_WORKER not in text:
        return f"{type(error).__name__}: {first_line(error)}"
    lines = text.partition(_OF_WORKER)[2].splitlines()
    ends = [line for line in lines if line and not line.startswith(" ")]
    return ends[0] if ends else type(error).__name__
