"""Animated GIF of an episode, by Pillow: the environment's images beside bars of the messages."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from antiphon.base.files import write_bytes

_MOST = 1000
"""Most frames of a film; of a longer episode every second, third, … frame is kept."""
_BOX = 480, 360
"""Largest width and height of the environment's image, in pixels."""
_BARS, _ROW = 340, 60
"""Width of the bars, and height of a channel's row."""
_INK = "#22303c"
_HEAD, _FOOT, _PAD = 30, 34, 18
_CHANNELS, _COMPONENTS = 12, 68
"""Most channels, and components of a message, that are drawn: the first ones."""
_FASTEST, _SLOWEST, _LEAST_SECONDS = 30.0, 2.0, 8.0
"""Most and least frames per second; a short film lasts at least so many seconds, if the least rate allows it."""
_LAST = 1500
"""Milliseconds of the last frame."""
_POSITIVE, _NEGATIVE, _OLD = "#129a86", "#c8453b", "#c9d1d8"


class FilmMessage(NamedTuple):
    """The newest message of a channel."""

    values: NDArray[np.float32]
    """The message's components, in order."""
    new: bool
    """Whether it was sent at this step."""


@dataclass(frozen=True)
class FilmFrame:
    """One step of an episode."""

    picture: bytes
    """Image of the environment before the step, compressed by `packed`: a film has hundreds."""
    shape: tuple[int, ...]
    """Shape of the image: height, width, 3."""
    text: str
    """Step of the episode, and its rewards."""
    messages: Mapping[str, FilmMessage]
    """Newest messages by channel."""

    @classmethod
    def of(cls, picture: NDArray[np.uint8], text: str, messages: Mapping[str, FilmMessage]) -> FilmFrame:
        """Return a frame of an image [height, width, 3]."""
        return cls(zlib.compress(picture.tobytes(), 1), picture.shape, text, messages)

    def unpacked(self) -> NDArray[np.uint8]:
        """Return the image, [height, width, 3]."""
        return np.frombuffer(zlib.decompress(self.picture), np.uint8).reshape(self.shape)


def write_film(path: Path, frames: Sequence[FilmFrame], *, title: str, fps: float) -> None:
    """Write frames as an animated GIF.

    Args:
        path: The file; an existing file is replaced.
        frames: At least one; at most a thousand are written, evenly spaced, and the last.
        title: A line above the images.
        fps: The environment's own frames per second; a short film is shown more slowly.
    """
    every = -(-len(frames) // _MOST)
    chosen = [frame for at, frame in enumerate(frames) if at % every == 0 or frame is frames[-1]]
    duration = 1000 / max(min(fps, _FASTEST, len(chosen) / _LEAST_SECONDS), _SLOWEST)
    images = _images(chosen, title)
    content = io.BytesIO()
    next(images).save(
        content,
        format="GIF",
        save_all=True,
        append_images=images,
        duration=[round(duration)] * (len(chosen) - 1) + [_LAST],
        loop=0,
    )
    write_bytes(Path(os.path.realpath(path)), content.getvalue())


def _images(frames: Sequence[FilmFrame], title: str) -> Iterator[Image.Image]:
    small, font = ImageFont.load_default(11), ImageFont.load_default(14)
    channels = list(dict.fromkeys(name for frame in frames for name in frame.messages))
    shown = channels[:_CHANNELS]
    sent = [message.values for frame in frames for message in frame.messages.values()]
    highest = max((float(np.nanmax(np.abs(v), initial=0.0, where=np.isfinite(v))) for v in sent), default=0.0)
    height, width = frames[0].shape[:2]
    scale = min(_BOX[0] / width, _BOX[1] / height)
    scale = math.floor(scale) if scale >= 2 else scale  # pixels stay squares
    box = max(round(width * scale), 1), max(round(height * scale), 1)
    text_x = box[0] + 2 * _PAD
    tall = max(box[1], _ROW * len(shown) + 20 * (len(shown) < len(channels)))
    for frame in frames:
        image = Image.new("RGB", (text_x + _BARS + _PAD, _HEAD + tall + _FOOT), "white")
        draw = ImageDraw.Draw(image)
        resampling = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
        image.paste(Image.fromarray(frame.unpacked()).resize(box, resampling), (_PAD, _HEAD))
        draw.text((_PAD, 8), title, fill=_INK, font=font)
        draw.text((_PAD, _HEAD + tall + 10), frame.text, fill=_INK, font=font)
        for row, name in enumerate(shown):
            draw.text((text_x, _HEAD + row * _ROW), name, fill=_INK, font=small)
            if name in frame.messages:
                _bars(draw, frame.messages[name], (text_x, _HEAD + row * _ROW + 36), highest or 1.0)
        if len(shown) < len(channels):
            more = f"… and {len(channels) - len(shown)} more channels"
            draw.text((text_x, _HEAD + len(shown) * _ROW), more, fill=_INK, font=small)
        yield image


def _bars(draw: ImageDraw.ImageDraw, message: FilmMessage, start: tuple[int, int], highest: float) -> None:
    """Draw a bar for each component: up where it is positive; grey where nothing is sent at this step."""
    x, y = start
    values = np.nan_to_num(message.values[:_COMPONENTS], posinf=highest, neginf=-highest)
    wide = min(28, _BARS // max(len(values), 1))
    for column, value in enumerate(values):
        end = y - 20 * float(value) / highest
        colour = (_POSITIVE if value > 0 else _NEGATIVE) if message.new else _OLD
        bar_x = x + wide * column
        draw.rectangle((bar_x, min(y, end), bar_x + wide - 2, max(y, end)), fill=colour)
    draw.line((x, y, x + wide * len(values), y), fill=_INK)
