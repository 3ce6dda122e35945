"""Arrays of a run for the Channels tab, and their packing for the browser."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.tab.explanations import GROUPS
from antiphon.telemetry.tab.tags import Family

Steps = NDArray[np.int64]
Values = NDArray[np.float32]


class Series(NamedTuple):
    """One metric of all agents, or of all channels, over steps.

    Attributes:
        steps: [rows], ascending.
        values: [rows, items]; nan where an item has no value.
    """

    steps: Steps
    values: Values

    def pack(self) -> bytes:
        """Pack for the browser, little endian: rows and items (uint32), steps (float64), values (float32)."""
        rows, items = self.values.shape
        return struct.pack("<II", rows, items) + self.steps.astype("<f8").tobytes() + _floats(self.values)


class Messages(NamedTuple):
    """Messages of one channel at some steps.

    Attributes:
        steps: [rows], ascending.
        samples: Per row, [samples, size + 1]; last is the label, nan without a label.
    """

    steps: Steps
    samples: Sequence[Values]


class Cloud(NamedTuple):
    """Messages of one channel as points in a plane.

    Attributes:
        steps: [rows].
        points: [rows, samples, 2]: along the two directions in which the messages of all rows vary most.
        labels: [rows, samples]; nan without a label.
        explained: [2]: the share of the variance along each direction.
    """

    steps: Steps
    points: Values
    labels: Values
    explained: Values

    def pack(self) -> bytes:
        """Pack for the browser, little endian.

        Rows and samples (uint32), shares explained (2 float32), steps (float64), points, labels (float32).
        """
        rows, samples = self.labels.shape
        head = struct.pack("<II", rows, samples) + _floats(self.explained)
        return head + self.steps.astype("<f8").tobytes() + _floats(self.points) + _floats(self.labels)


def cloud(messages: Messages) -> Cloud:
    """Return the messages as points along their first two principal components, computed over all rows together.

    One basis for all rows: points of different steps can be compared. Rows with fewer samples are filled with nan.

    Args:
        messages: Messages of one channel; messages with a component that is not finite become nan.
    """
    rows, longest = len(messages.steps), max((len(row) for row in messages.samples), default=0)
    points = np.full((rows, longest, 2), np.nan, dtype=np.float32)
    labels = np.full((rows, longest), np.nan, dtype=np.float32)
    for row, sample in enumerate(messages.samples):
        labels[row, : len(sample)] = sample[:, -1]
    everything = [np.asarray(sample[:, :-1], dtype=np.float64) for sample in messages.samples]
    finite = [np.flatnonzero(np.isfinite(vectors).all(1)) for vectors in everything]
    pooled = np.concatenate(
        [vectors[finite_rows] for vectors, finite_rows in zip(everything, finite, strict=True)]
    )
    explained = np.zeros(2, dtype=np.float32)
    if len(pooled):
        centre = pooled.mean(0)
        deviations = pooled - centre
        variances, directions = np.linalg.eigh(deviations.T @ deviations / len(deviations))
        basis, shares = directions[:, ::-1][:, :2], variances[::-1][:2] / max(float(variances.sum()), 1e-30)
        basis = basis * np.where(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])] < 0, -1.0, 1.0)
        with np.errstate(over="ignore"):  # overflow of float32 becomes infinite
            for row, (vectors, finite_rows) in enumerate(zip(everything, finite, strict=True)):
                points[row, finite_rows, : basis.shape[1]] = (vectors[finite_rows] - centre) @ basis
        if basis.shape[1] == 1:  # a message of one component: a line
            points[..., 1] = np.where(np.isnan(points[..., 0]), np.nan, 0.0)
        explained[: basis.shape[1]] = shares.clip(0.0, 1.0)
    return Cloud(np.asarray(messages.steps, dtype=np.int64), points, labels, explained)


def catalogue(metrics: Iterable[tuple[str, str]], messages: Iterable[int], **facts: object) -> dict[str, Any]:
    """Return the contents of a run: metrics by family, their groups, channels with messages, and further facts."""
    by_family: dict[str, list[str]] = {family: [] for family in get_args(Family)}
    for family, metric in metrics:
        by_family[family].append(metric)
    return {**by_family, "groups": GROUPS, "messages": sorted(messages), **facts}


@dataclass(frozen=True, repr=False)
class RunData:
    """Data of one run in the Channels tab.

    Attributes:
        name: Name of the run.
        graph: The JSON under `antiphon/graph`.
        timeline: The JSON under `antiphon/timeline`; None: not written.
        metrics: Values by family and metric.
        messages: Messages by number of the channel.
        parts: The JSON under `antiphon/parts`; None: not written.
    """

    name: str
    graph: Mapping[str, Any]
    timeline: Mapping[str, Any] | None = None
    metrics: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    messages: Mapping[int, Messages] = field(default_factory=dict)
    parts: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<RunData of {self.name}: {len(self.metrics)} metrics, messages of {len(self.messages)} channels>"

    def embedded(self) -> dict[str, Any]:
        """Return plain data for a page without a server: JSON, and packed arrays, compressed (zlib) and as base64."""
        available = {"timeline": self.timeline is not None, "parts": self.parts is not None}
        return {
            "run": self.name,
            "graph": self.graph,
            "timeline": self.timeline,
            "parts": self.parts,
            "catalog": catalogue(self.metrics, self.messages, **available, sampled=False),
            "metrics": {
                f"{family}/{metric}": _text(series.pack())
                for (family, metric), series in self.metrics.items()
            },
            "clouds": {
                str(channel): _text(cloud(messages).pack()) for channel, messages in self.messages.items()
            },
        }


def _floats(values: Values) -> bytes:
    return values.astype("<f4").tobytes()


def _text(packed: bytes) -> str:
    return base64.b64encode(zlib.compress(packed)).decode("ascii")
