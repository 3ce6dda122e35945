"""Profiles of clusters of equal machines."""

from __future__ import annotations

from typing import Any

from antiphon.distributed.virtual.profile import ClusterProfile


def profile(parts: int, **keys: Any) -> ClusterProfile:
    """A cluster of equal machines; keys of the link, `compute` and `failures`."""
    compute = keys.pop("compute", {"step": 1})
    failures = keys.pop("failures", None)
    links = [{"between": ["m", "m"], **keys}] if parts > 1 else []
    return ClusterProfile(
        cluster="test", machines={"m": {"count": parts}}, compute=compute, failures=failures, links=links
    )
