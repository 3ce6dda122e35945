"""Draws the pictures of the documents: `python docs/pictures/make.py`."""

from pathlib import Path

import slow_line
import waits

HERE = Path(__file__).parent


def main() -> None:
    """Draw what a sender waits for, and the slow line's results."""
    waits.draw(HERE / "waits.png")
    slow_line.draw(HERE / "slow-line.png")


if __name__ == "__main__":
    main()
