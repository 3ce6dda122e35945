"""The section of representations: messages as points in a plane, and the pictures that `evaluate --represent` drew."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.channels.series import Cloud, RunData, cloud
from antiphon.telemetry.report.html import Html, element, figure, joined, section
from antiphon.telemetry.report.run import Picture, ReportRun

__all__ = ["representations"]

_CHANNELS = 6
"""Whose messages are drawn, at most."""
_RUNS = 3
"""Whose messages are drawn, at most."""
_CLASSES = 10
"""Colours of labels; further ones begin anew."""
_SIDE, _PAD = 170, 8
_WORDS = {
    "rdm.png": "Dissimilarity of the agents' representations, example by example",
    "similarity.png": "How alike the agents' dissimilarities are",
    "probes.png": "Accuracy of linear probes, agent by agent",
    "weights.png": "Norms of weights, agent by agent",
    "implied.png": "Loss that a synthetic gradient implies, against the true one",
}


def representations(runs: Sequence[ReportRun]) -> Html:
    """Return clouds and pictures."""
    with_messages = [run for run in runs if run.data is not None and run.data.messages]
    blocks = []
    for run in with_messages[:_RUNS]:
        assert run.data is not None
        blocks += [] if len(runs) == 1 else [element("h3", run.name)]
        blocks.append(_clouds(run.data))
    if len(with_messages) > _RUNS:
        text = (
            f"Messages of {_RUNS} of {len(with_messages)} runs are drawn; the graph above has those of all."
        )
        blocks.append(element("p", text, class_="says"))
    for run in runs:
        if run.pictures:
            blocks.append(element("h3", f"{run.name}: pictures of antiphon evaluate --represent"))
            blocks.append(element("div", *map(_picture, run.pictures), class_="charts"))
    if not any(run.pictures for run in runs):
        folder = f"{runs[0].path}/representations"
        command = element("code", f"antiphon evaluate {runs[0].path} --represent {folder}")
        blocks.append(
            element("p", "No pictures of representations. This draws them: ", command, class_="empty")
        )
    says = (
        "What the networks tell each other, and what they make of it. Each plane shows messages of one channel along the "
        "two directions in which those of all steps together vary most; a colour is a label. Where colours part, "
        "the message tells classes apart."
    )
    return section("representations", "Representations", says, *blocks)


def _picture(picture: Picture) -> Html:
    content = base64.b64encode(picture.content).decode("ascii")
    title = _WORDS.get(picture.name, picture.name)
    return figure(element("img", src=f"data:{picture.kind};base64,{content}", alt=title), title)


def _clouds(data: RunData) -> Html:
    names = [channel["name"] for channel in data.graph["channels"]]
    known = [number for number in sorted(data.messages) if number < len(names)]
    drawn = [_cloud(names[number], cloud(data.messages[number])) for number in known[:_CHANNELS]]
    more = len(known) - len(drawn)
    note = f"{more} more channels with messages are in the graph above." if more > 0 else None
    below = element("p", note, class_="says") if note else None
    return element("div", element("div", *drawn, class_="clouds"), below)


def _cloud(name: str, found: Cloud) -> Html:
    """Draw a channel's messages at the first, the middle and the last step that there is."""
    last = len(found.steps) - 1
    rows = sorted({0, last // 2, last})
    points = found.points[np.isfinite(found.points).all(-1)]
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(2), np.ones(2))
    span = max(float((high - low).max()), 1e-9)
    parts: list[Html | None] = []
    for place, row in enumerate(rows):
        left = place * (_SIDE + 12)
        inner = _SIDE - 2 * _PAD
        centred = (found.points[row] - (low + high) / 2) / span
        at = np.stack(
            [left + _SIDE / 2 + inner * centred[:, 0], 18 + _SIDE / 2 - inner * centred[:, 1]], axis=1
        )
        parts.append(element("text", f"step {int(found.steps[row]):,}", x=left + 2.0, y=12.0))
        parts.append(
            element("rect", x=left + 0.5, y=18.5, width=_SIDE - 1.0, height=_SIDE - 1.0, class_="plane")
        )
        parts += _points(at, found.labels[row])
    title = f"Messages of {name}"
    across, up = (f"{100 * share:.0f} %" for share in found.explained)
    drawing = element(
        "svg",
        element("title", title),
        joined(parts),
        viewBox=f"0 0 {len(rows) * (_SIDE + 12) - 12} {_SIDE + 20}",
        role="img",
        class_="chart",
    )
    return figure(drawing, name, f"Variance: {across} to the right, {up} upwards.")


def _points(at: NDArray[np.float64], labels: NDArray[np.float32]) -> list[Html]:
    """Draw points, a path for each label; those without one are grey."""
    found = []
    sound = np.isfinite(at).all(1)
    numbers = np.where(np.isfinite(labels), labels, -1.0)
    for label in np.unique(numbers[sound]):
        chosen = at[sound & (numbers == label)]
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in chosen)
        kind = "none" if label < 0 else f"k{int(label) % _CLASSES}"
        found.append(element("path", d=path, class_=f"point {kind}"))
    return found
