"""Draws the worlds of the library side by side: see `python docs/pictures/make.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.image import imsave

import antiphon

GAP = 16


def draw(path: Path) -> None:
    """Draw a pole that has begun to fall, a walker with the key, a listener on its way to the goal, and a game."""
    frames = [
        _frame("CartPole", [1] * 7),
        _frame("SpeakerListener", [4, 4, 2, 2, 4, 4, 2, 0, 0, 4], message="channel"),
        _frame("KeyDoor", [1] * 5 + [3] * 5 + [0] * 3),
        _frame("Referential", [], candidates=8, concept=True, distractors=2),
    ]
    height = max(len(frame) for frame in frames)
    columns = []
    for frame in frames:
        above = (height - len(frame)) // 2
        column = np.full((height, frame.shape[1] + GAP, 3), 255, np.uint8)
        column[above : above + len(frame), GAP // 2 : -GAP // 2] = frame
        columns.append(column)
    imsave(path, np.concatenate(columns, axis=1))


def _frame(name: str, actions: list[int], **options: object) -> np.ndarray:
    """A picture of a world after some actions."""
    env = antiphon.envs.make({"id": f"antiphon/{name}-v0", **options}, batch=1)
    env.reset(seed=2)
    for action in actions:
        env.step(torch.tensor([action]))
    return env.render()[0]
