"""An episode as an animated GIF, by Pillow: the world's pictures beside the graph, with what the agents send and do."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.errors import RunError
from antiphon.files import write_bytes
from antiphon.telemetry.pictures import COUPLINGS, INK, OTHER_COUPLING, ROLES
from antiphon.telemetry.placement import arrows, extent, place

if TYPE_CHECKING:
    import networkx as nx
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["FilmFrame", "PackedPicture", "SentMessage", "check_film", "write_film"]

_MOST = 1000
"""Frames of a film; of a longer one every second, third, … is kept."""
_BOX = 480, 360
"""Most width and height of the world's picture, in pixels."""
_GRAPH = 420
"""Width of the graph."""
_HEAD, _FOOT, _PAD = 30, 34, 18
_THINNEST, _THICKEST = 1.0, 9.0
"""Widths of a channel: without energy, and with the most that any message of the film has."""
_LABELS = 16
"""Most channels whose messages are written out; in a larger graph they would cover it."""
_BARS = 16
"""Most components of a message that are drawn as bars; of longer ones the first."""
_COLOURS, _SAMPLED = 256, 8
"""Colours of a film, and how many of its frames they are chosen from."""
_LONGEST_TEXT = 18
"""Characters of an action or of symbols, at most."""
_FASTEST, _LEAST_SECONDS, _LAST_SECONDS = 30.0, 8.0, 1.5
"""Frames per second, at most; the least duration of a film, where frames can be slow enough; that of its last frame."""
_SLOWEST = 2.0
_FAINT = "#c9d1d8"


class PackedPicture(NamedTuple):
    """A picture of the world, compressed: a film has hundreds."""

    content: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, picture: NDArray[np.uint8]) -> PackedPicture:
        """Compress a picture [height, width, 3]."""
        return cls(zlib.compress(picture.tobytes(), 1), picture.shape)

    def unpack(self) -> NDArray[np.uint8]:
        """Return the picture, [height, width, 3]."""
        return np.frombuffer(zlib.decompress(self.content), np.uint8).reshape(self.shape)


class SentMessage(NamedTuple):
    """The newest message of a channel.

    Attributes:
        values: Its components, in order.
        symbols: Where it is of symbols: their numbers.
        new: Whether it was sent at this step.
    """

    values: NDArray[np.float32]
    symbols: tuple[int, ...] | None
    new: bool

    @property
    def energy(self) -> float:
        """Root of the mean square of its components."""
        return math.sqrt(float(np.square(self.values, dtype=np.float64).mean())) if self.values.size else 0.0


@dataclass(frozen=True)
class FilmFrame:
    """One step of an episode.

    Attributes:
        picture: Of the world before the step.
        episode: From 1.
        step: Of the episode, from 1.
        reward: Of the step.
        total: The episode's rewards up to and with this one.
        sent: By channel.
        actions: By acting agent, as text.
        ticks: The agents that ticked.
    """

    picture: PackedPicture
    episode: int
    step: int
    reward: float
    total: float
    sent: Mapping[str, SentMessage] = field(default_factory=dict)
    actions: Mapping[str, str] = field(default_factory=dict)
    ticks: frozenset[str] = frozenset()


def check_film(path: Path) -> None:
    """Check, before a film is recorded, that it can be written.

    Raises:
        RunError: The suffix is another than `.gif`, or Pillow is not installed.
    """
    if path.suffix.lower() != ".gif":
        raise RunError(f"{path}: a film is a GIF; let the file's name end in .gif")
    _pillow()


def write_film(
    path: Path,
    graph: nx.MultiDiGraph[str],
    frames: Sequence[FilmFrame],
    *,
    title: str,
    fps: float,
    on_frame: Callable[[], Any] = lambda: None,
) -> int:
    """Write a film and return how many of its steps it shows one of: 1, or more in a film of over 1,000 steps.

    Args:
        path: The file; an existing one is replaced.
        graph: Agents and channels, as of a run's description.
        frames: At least one; a thousand are written at most.
        title: A line above the pictures.
        fps: The world's own frames per second; a short film is slower, so that what is said can be read.
        on_frame: Called for every frame that has been drawn.

    Raises:
        RunError: As of `check_film`, or the file cannot be written.
    """
    check_film(path)
    every = -(-len(frames) // _MOST)
    chosen = [frame for at, frame in enumerate(frames) if at % every == 0 or frame is frames[-1]]
    stage = _Stage(graph, frames, title)
    duration = 1000 / max(min(fps, _FASTEST, len(chosen) / _LEAST_SECONDS), _SLOWEST)
    durations = [round(duration)] * (len(chosen) - 1) + [round(1000 * _LAST_SECONDS)]

    def rendered() -> Iterator[Image]:
        for image in stage.images(chosen):
            yield image
            on_frame()

    images = rendered()
    first = next(images)
    content = io.BytesIO()
    first.save(
        content,
        format="GIF",
        save_all=True,
        append_images=images,
        duration=durations,
        loop=0,
        optimize=False,
    )
    write_bytes(Path(os.path.realpath(path)), content.getvalue())
    return every


def _pillow() -> tuple[Any, Any, Any]:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise RunError("a film needs Pillow: pip install 'antiphon[plots]'") from None
    return Image, ImageDraw, ImageFont


class _Stage:
    """What is the same in all frames: sizes, places, scales."""

    def __init__(self, graph: nx.MultiDiGraph[str], frames: Sequence[FilmFrame], title: str) -> None:
        self._graph, self._title = graph, title
        self._image, self._draw, fonts = _pillow()
        self._small, self._font = fonts.load_default(11), fonts.load_default(14)
        height, width = frames[0].picture.shape[:2]
        self._scale = min(_BOX[0] / width, _BOX[1] / height)
        if self._scale > 1:
            self._scale = math.floor(self._scale)  # pixels stay squares
        self._world = max(round(width * self._scale), 1), max(round(height * self._scale), 1)
        content = max(self._world[1], 240)
        self._size = self._world[0] + _GRAPH + 3 * _PAD, _HEAD + content + _FOOT
        self._places(self._world[0] + 2 * _PAD, _HEAD, _GRAPH, content)
        energies = [message.energy for frame in frames for message in frame.sent.values()]
        self._most = max((energy for energy in energies if math.isfinite(energy)), default=0.0) or 1.0
        values = [np.abs(message.values) for frame in frames for message in frame.sent.values()]
        finite = [float(part[np.isfinite(part)].max(initial=0.0)) for part in values]
        self._highest = max(finite, default=0.0) or 1.0

    def _places(self, left: int, top: int, width: int, height: int) -> None:
        """Place agents and channels in a box, in pixels."""
        placement = place(self._graph)
        found = arrows(self._graph, placement)
        west, south, east, north = extent(placement, found.values())
        margin = 26  # for the texts below the agents
        zoom = min(
            (width - 2 * margin) / max(east - west, 1e-6),
            (height - 2 * margin) / max(north - south, 1e-6),
            110,
        )
        shift = np.array(
            [left + width / 2 - zoom * (west + east) / 2, top + height / 2 + zoom * (south + north) / 2]
        )

        def pixels(points: NDArray[np.float64]) -> list[tuple[float, float]]:
            return [(float(x), float(y)) for x, y in points * [zoom, -zoom] + shift]

        self._radius = placement.radius * zoom
        self._agents = {name: pixels(centre[None])[0] for name, centre in placement.places.items()}
        self._channels = {
            f"{a}->{b}" + (f":{key}" if key != 0 else ""): (
                pixels(arrow.line),
                pixels(arrow.head),
                COUPLINGS.get(self._graph.edges[a, b, key].get("coupling", "locked"), OTHER_COUPLING).colour,
            )
            for (a, b, key), arrow in found.items()
        }

    def images(self, frames: Sequence[FilmFrame]) -> Iterator[Image]:
        """Yield the frames in the colours of some of them."""
        chosen = frames[:: -(-len(frames) // _SAMPLED)]
        width, height = self._size
        strip: Image = self._image.new("RGB", (width, height * len(chosen)))
        for row, frame in enumerate(chosen):
            strip.paste(self.draw(frame), (0, height * row))
        palette = strip.quantize(_COLOURS)
        for frame in frames:
            yield self.draw(frame).quantize(palette=palette, dither=self._image.Dither.NONE)

    def draw(self, frame: FilmFrame) -> Image:
        """Draw a frame."""
        image: Image = self._image.new("RGB", self._size, "white")
        draw = self._draw.Draw(image)
        pictured = self._image.fromarray(frame.picture.unpack())
        nearest = self._image.Resampling.NEAREST if self._scale >= 1 else self._image.Resampling.LANCZOS
        image.paste(pictured.resize(self._world, nearest), (_PAD, _HEAD))
        draw.text((_PAD, 8), self._title, fill=INK, font=self._font)
        for name, (line, head, colour) in self._channels.items():
            self._channel(draw, frame.sent.get(name), line, head, colour)
        for name, centre in self._agents.items():
            self._agent(draw, frame, name, centre)
        if len(self._channels) <= _LABELS:
            for name, (line, _, _) in self._channels.items():
                if name in frame.sent:
                    self._message(draw, frame.sent[name], line[len(line) // 2])
        self._footer(draw, frame)
        return image

    def _channel(
        self,
        draw: ImageDraw,
        message: SentMessage | None,
        line: list[tuple[float, float]],
        head: list[tuple[float, float]],
        colour: str,
    ) -> None:
        """Draw a channel: as wide as its message has energy, faint while none is sent."""
        energy = 0.0 if message is None or not math.isfinite(message.energy) else message.energy
        width = _THINNEST + (_THICKEST - _THINNEST) * energy / self._most
        paint = colour if message is not None and message.new else _FAINT
        draw.line(line, fill=paint, width=max(round(width), 1), joint="curve")
        draw.polygon(head, fill=paint)

    def _agent(self, draw: ImageDraw, frame: FilmFrame, name: str, centre: tuple[float, float]) -> None:
        """Draw an agent: its disc, pale where it did not tick, its name, and what it does."""
        role = str(self._graph.nodes[name].get("role"))
        style = ROLES.get(role, ROLES["agent"])
        x, y, r = *centre, self._radius
        ticks = name in frame.ticks
        draw.ellipse(
            (x - r, y - r, x + r, y + r), fill=style.fill if ticks else "#ffffff", outline=style.edge, width=2
        )
        inside = draw.textlength(name, font=self._small) < 2 * r - 6
        if inside:
            draw.text(centre, name, fill=style.text if ticks else INK, font=self._small, anchor="mm")
        else:
            draw.text((x, y - r - 3), name, fill=INK, font=self._small, anchor="mb")
        if name in frame.actions:
            draw.text(
                (x, y + r + 3), f"action {frame.actions[name]}", fill=INK, font=self._small, anchor="mt"
            )

    def _message(self, draw: ImageDraw, message: SentMessage, centre: tuple[float, float]) -> None:
        """Write what is said at the middle of its channel: symbols, or a bar for each component."""
        x, y = centre
        if message.symbols is not None:
            text = " ".join(map(str, message.symbols))
            text = text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
            box = draw.textbbox(centre, text, font=self._font, anchor="mm")
            draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill="white", outline=INK)
            draw.text(centre, text, fill=INK if message.new else _FAINT, font=self._font, anchor="mm")
            return
        values = message.values[:_BARS]
        wide, high = max(5, min(14, 40 // max(len(values), 1))), 15
        left = x - wide * len(values) / 2
        draw.rectangle(
            (left - 3, y - high - 3, left + wide * len(values) + 2, y + high + 3),
            fill="white",
            outline=_FAINT,
        )
        for column, value in enumerate(values):
            share = float(np.clip(value / self._highest, -1.0, 1.0)) if math.isfinite(value) else 0.0
            ends = sorted((y, y - high * share))
            colour = ("#129a86" if share > 0 else "#c8453b") if message.new else _FAINT
            at = left + wide * column
            draw.rectangle((at, ends[0], at + wide - 2, ends[1]), fill=colour)
        draw.line((left - 1, y, left + wide * len(values), y), fill=INK)

    def _footer(self, draw: ImageDraw, frame: FilmFrame) -> None:
        texts = (
            f"episode {frame.episode}",
            f"step {frame.step}",
            f"reward {frame.reward:+.3g}",
            f"return {frame.total:.5g}",
        )
        for column, text in enumerate(texts):
            draw.text((_PAD + 130 * column, self._size[1] - 24), text, fill=INK, font=self._font)
