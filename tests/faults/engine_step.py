"""Faults in engine/step and engine/policies: what a step computes, and in which order."""

from __future__ import annotations

from tests.faults.fault import Fault

STEP: tuple[Fault, ...] = (
    Fault(
        "backward-a-loss-is-divided-by-its-valid-rows",
        "engine/step/backward.py",
        "        loss = tick.losses.sum() / self.system.batch\n",
        "        loss = tick.losses.sum() / (self.system.batch if present is None else present.sum())\n",
        "tests/contracts/test_contracts.py::test_documents[absent targets-reference]",
    ),
    Fault(
        "backward-a-loss-without-a-target-counts",
        "engine/step/backward.py",
        "losses, score = mask_fill_zero(present, losses), mask_fill_zero(present, score)",
        "score = mask_fill_zero(present, score)",
        "tests/contracts/test_contracts.py::test_documents[absent targets-reference]",
    ),
    Fault(
        "forward-a-void-message-is-read-over-a-locked-channel",
        "engine/step/forward.py",
        "        value = mask_fill_zero(entry.available, tape.graph_outputs[channel.name, entry.stamp].flatten(1))\n        if part",
        "        value = tape.graph_outputs[channel.name, entry.stamp].flatten(1)\n        if part",
        "tests/contracts/test_contracts.py::test_documents[symbols, returns of states-reference]",
    ),
)
