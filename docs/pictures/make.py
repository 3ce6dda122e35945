"""Draws the pictures of the documents: `python docs/pictures/make.py`."""

from pathlib import Path

import slow_line
import waits
import worlds

HERE = Path(__file__).parent


def main() -> None:
    """Draw what a sender waits for, the slow line's results, and the worlds."""
    waits.draw(HERE / "waits.png")
    slow_line.draw(HERE / "slow-line.png")
    worlds.draw(HERE / "worlds.png")


if __name__ == "__main__":
    main()
