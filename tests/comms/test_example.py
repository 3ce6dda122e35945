"""The loop in the package's documentation runs as it stands, and its networks learn."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from antiphon import comms


@pytest.mark.long
def test_the_loop_of_the_documentation_learns() -> None:
    assert comms.__doc__ is not None
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", comms.__doc__)
    assert len(blocks) == 1
    torch.manual_seed(0)
    truth = torch.randn(20, 4)
    images = torch.randn(200, 64, 20)
    names: dict[str, Any] = {"batches": [(image, (image @ truth).argmax(1)) for image in images]}
    exec(compile(textwrap.dedent(blocks[0]), "comms", "exec"), names)  # noqa: S102  (our own documentation)
    image, label = names["batches"][0]
    with torch.no_grad():
        output = names["mind"](names["eye"](image))
    assert F.cross_entropy(output, label) < 0.5
