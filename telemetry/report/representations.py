"""The section of representations: messages as points in a plane, and the pictures of `evaluate --represent`."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.channels.series import Cloud, RunData, cloud
from antiphon.telemetry.report.html import Html, drawing, element, figure, legend_entry, section
from antiphon.telemetry.report.run import Group, Picture

__all__ = ["representations"]

_CHANNELS = 6
"""Most channels with messages in the pictures."""
_RUNS = 3
"""Most runs with messages in the pictures."""
_CLASSES = 10
"""Number of label colours; further labels repeat them."""
_SIDE, _PAD = 106, 6
_WORDS = {
    "rdm.png": "Dissimilarity of the agents' representations, example by example",
    "similarity.png": "How alike the agents' dissimilarities are",
    "probes.png": "Accuracy of linear probes, agent by agent",
    "weights.png": "Norms of weights, agent by agent",
    "implied.png": "Loss that a synthetic gradient implies, against the true one",
}


def representations(groups: Sequence[Group]) -> Html:
    """Return clouds of messages, of the first run of each group, and pictures of all runs."""
    runs = [run for group in groups for run in group.runs]
    talking = [run for group in groups for run in group.runs if run.data is not None and run.data.messages]
    firsts = [own[0] for group in groups if (own := [run for run in group.runs if run in talking])]
    blocks = []
    for run in firsts[:_RUNS]:
        assert run.data is not None
        blocks += [] if len(runs) == 1 else [element("h3", run.name)]
        blocks.append(_clouds(run.data))
    if len(talking) > len(firsts[:_RUNS]):
        text = f"Messages of {len(firsts[:_RUNS])} of {len(talking)} runs are drawn; the live graph has those of all."
        blocks.append(element("p", text, class_="says"))
    for run in runs:
        if run.pictures:
            blocks.append(element("h3", f"{run.name}: pictures of antiphon evaluate --represent"))
            blocks.append(element("div", *map(_picture, run.pictures), class_="charts"))
    if not any(run.pictures for run in runs):
        path = runs[0].path
        command = shlex.join(["antiphon", "evaluate", path, "--represent", f"{path}/representations"])
        text = "No run directory holds pictures of representations. This draws them: "
        blocks.append(element("p", text, element("code", command), class_="empty"))
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
    """Draw the messages of some channels, preferring distinct senders."""
    channels = data.graph["channels"]
    known = [number for number in sorted(data.messages) if number < len(channels)]
    turns: dict[int, list[int]] = {}
    for number in known:
        turns.setdefault(channels[number]["from"], []).append(number)
    ordered = [n for turn in zip_longest(*turns.values()) for n in turn if n is not None]
    chosen = sorted(ordered[:_CHANNELS])
    clouds = {channels[number]["name"]: cloud(data.messages[number]) for number in chosen}
    more = len(known) - len(chosen)
    note = f"{more} more channels with messages are in the live graph." if more > 0 else None
    below = element("p", note, class_="says") if note else None
    planes = [_cloud(name, found) for name, found in clouds.items()]
    return element("div", _labels(clouds.values()), element("div", *planes, class_="clouds"), below)


def _labels(clouds: Iterable[Cloud]) -> Html | None:
    """Return the legend of label colours; None without labels."""
    found = sorted(
        {int(label) for one in clouds for label in one.labels[np.isfinite(one.labels)] if label >= 0}
    )
    keys = []
    for label in found[:_CLASSES]:
        dot = element("path", d="M6 6h0", class_=f"point k{label % _CLASSES}")
        keys.append(legend_entry(dot, 12, str(label)))
    if len(found) > _CLASSES:
        keys.append(element("li", f"further labels begin anew (up to {found[-1]})"))
    return element("ul", element("li", "label"), *keys, class_="legend") if keys else None


def _cloud(name: str, found: Cloud) -> Html:
    """Draw a channel's messages at the first, the middle and the last recorded step."""
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
    across, up = (f"{100 * share:.0f} %" for share in found.explained)
    box = (0, 0, len(rows) * (_SIDE + 12) - 12, _SIDE + 20)
    picture = drawing(parts, f"Messages of {name}", box, sized=True)
    return figure(picture, name, f"Variance: {across} to the right, {up} upwards.")


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
