"""One of two ends of a line, as a program: it is told the other's port, and told to send it echoes, as often as it is asked.

python -m tests.kit.echoes INDEX HOST HOST
"""

from __future__ import annotations

import sys

from antiphon.distributed.ray.sockets import Sockets


def main() -> None:
    """Print the own port; read the other's; whenever told to send, print how many echoes came, and whether packets were sent again."""
    index, *hosts = sys.argv[1:]
    end = Sockets(int(index), b"secret", hosts[int(index)], lambda *_: None, lambda *_: None)
    print(end.port, flush=True)
    other = 1 - int(index)
    end.connect(0, {other: (0, hosts[other], int(input()))}, free=False)
    for _ in sys.stdin:
        print(len(end.echoes(other, 10**6, 3, 60.0)), end.line(other).resent, flush=True)


if __name__ == "__main__":
    main()
