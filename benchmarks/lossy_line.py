"""How are messages best sent over a line that loses packets? Waiting, bytes and lost samples of a step, by way.

    python benchmarks/lossy_line.py --line 100:25:0.01      as root (`slow_line/network.py`)

Two processes sleep 60 ms a step. After each step the first sends a message of 16 samples, which the second reads `--delay` steps
later; neither is further ahead than that. Ways: TCP by congestion control, on one connection or several in turn (`*4`), and
`datagrams`, where nothing is sent again: the second goes on when a newer message comes, and a sample that lacks a packet is lost.
`waits` are milliseconds a step that the second waits; `kB`, of a step, are what crosses in the direction of messages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from ends import DATAGRAMS, MTU
from interleaved import finish, parsed, table
from network import Network, NetworkError, Setting

WAYS = ("cubic", "cubic*4", "bbr", "bbr*4", DATAGRAMS)


def measured(network: Network, setting: Setting, *of: Any) -> dict[str, Any]:
    """Return what comes of a way.

    Args:
        network: Of two machines.
        setting: The line.
        of: Way, bytes of a message, delay and steps.
    """
    network.renew(setting)
    first, second = network.ends
    command = [sys.executable, str(HERE / "slow_line" / "ends.py"), second.address, *map(str, of)]
    with second.start([*command, "receive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as receiver:
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        receiver.stdout.readline()
        sender = first.start([*command, "send"])
        found: dict[str, Any] = json.loads(receiver.stdout.readline())
        found["kB"] = round(network.lines.bytes[0] / of[-1] / 1e3, 1)
        receiver.stdin.close()
        sender.wait()
    return found


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--line", default="100:25:0.01", metavar="MBIT:MS[:LOSS]")
    parser.add_argument("--ways", default=",".join(WAYS), help="with commas")
    parser.add_argument("--size", type=int, default=98_304, help="bytes of a message")
    parser.add_argument(
        "--delay", type=int, action="append", help="may be given several times; default: 2, 3"
    )
    parser.add_argument("--steps", type=int, default=150)
    arguments = parsed(parser, rounds=1)
    rows, delays, ways = [], arguments.delay or [2, 3], arguments.ways.split(",")
    if unknown := {*ways} - {*WAYS}:
        parser.error(f"no way {min(unknown)!r}; there are {', '.join(WAYS)}")
    try:
        setting = Setting.parsed(arguments.line)
        with Network(2, MTU) as network:
            for _, delay, way in product(range(arguments.rounds), delays, ways):
                of = way, arguments.size, delay, arguments.steps
                rows.append({"way": way, "delay": delay, **measured(network, setting, *of)})
                print(*rows[-1].values(), file=sys.stderr, flush=True)
    except (NetworkError, ValueError) as error:
        sys.exit(f"lossy_line: {error}")
    result = {"benchmark": "lossy_line", "line": arguments.line, "rows": rows}
    finish(result, arguments, table(rows, ["way", "delay", "ms", "waits", "lost", "kB"]))


if __name__ == "__main__":
    main()
