"""The one line with which data are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from antiphon.base.errors import DataError


def message(call: Callable[[], Any]) -> str:
    """The line with which a call fails."""
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text
