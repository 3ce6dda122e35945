"""Scenarios are data: importing them loads no torch."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from antiphon.scenarios import Scenario, catalogue, load
assert "networkx" not in sys.modules, "networkx is imported only where it is used"
for template in catalogue().values():
    assert template.parameters
load("corporation").resolve_values("locked")
heavy = sorted({"torch", "gymnasium", "numpy", "antiphon.engine"} & set(sys.modules))
print("loaded:", *heavy)
"""


def test_nothing_heavy_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.split() in (["loaded:"], ["loaded:", "numpy"])
