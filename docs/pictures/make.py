"""Draws the pictures of the documents: `python docs/pictures/make.py`."""

from pathlib import Path

import couplings
import slow_line
import worlds

HERE = Path(__file__).parent


def main() -> None:
    """Draw the couplings' truth table, the slow line's results and the worlds."""
    couplings.draw(HERE / "couplings.png")
    slow_line.draw(HERE / "slow-line.png")
    slow_line.draw_curves(HERE / "slow-line-curves.png")
    worlds.draw(HERE / "worlds.png")


if __name__ == "__main__":
    main()
