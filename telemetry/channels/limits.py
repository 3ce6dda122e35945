"""Limits on what one request of the Channels tab may cost, whatever an event file holds."""

from __future__ import annotations

__all__ = ["ANSWER_BYTES", "COMPONENTS", "DOCUMENT_BYTES", "rows_within"]

ANSWER_BYTES = 128 * 2**20
"""Bytes of the rows in one answer: 1000 rows of 33,000 agents or channels."""
DOCUMENT_BYTES = 32 * 2**20
"""Bytes of a graph, a timeline or a list of machines: a graph of some 200,000 channels."""
COMPONENTS = 1024
"""Components of a message up to which its covariance is computed; beyond, as many messages are compared."""


def rows_within(items: int) -> int:
    """Return how many rows of so many float32, each with its step, fit into one answer; 0: not even one."""
    return ANSWER_BYTES // (8 + 4 * items)
