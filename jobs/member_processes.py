"""Members divided over processes, which step together and meet after each step.

At a meeting each process gives values, and gets those of all. They go through the process that began the others.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from itertools import pairwise
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import torch

from antiphon.base.errors import AntiphonError, RunError
from antiphon.base.imports import with_imports
from antiphon.base.signals import pass_on, stop_signals
from antiphon.engine.state.trees import mapped
from antiphon.engine.state.wire import from_bytes, to_bytes
from antiphon.jobs.processes import Place

Meeting = Callable[[Mapping[int, Any], Collection[int] | None], Mapping[int, Any]]
"""Gives values by member, and returns those of all processes, of the members that are wanted; None: all, after a step."""


_NOTHING: Mapping[str, Any] = {"values": [], "wanted": None}
"""Given at most meetings, and sent as no bytes."""


def alone(values: Mapping[int, Any], members: Collection[int] | None = None) -> Mapping[int, Any]:
    """Meet nobody: the process has all members."""
    return values


Work = Callable[[Sequence[int], Meeting], Any]
"""What a process does with its share of the members; it is sent there, and called with its meeting."""


def divided(
    name: str,
    work: Work,
    members: Sequence[int],
    pool: Place,
    count: int,
    *,
    device: str,
    together: bool,
    on_step: Callable[[], object],
) -> list[Any]:
    """Divide members over processes, and return what each of them returns; a signal is passed on to all at the next meeting.

    Args:
        name: Begins errors, and is what can be resumed.
        work: Meets once after each step, in each process until it returns.
        members: In order.
        count: How many there are; at most one for each member.
        together: Whether each needs values of all: one that ends before the others, as it got a signal itself, ends all.

    Raises:
        AntiphonError: What the work raises; a RunError for what is no error of antiphon's.
        RunError: A process was killed, or stopped although all go on together, or cannot begin.
        KeyboardInterrupt: A signal before all have begun, or a second one.
    """
    count = min(count, len(members))
    edges = [len(members) * share // count for share in range(count + 1)]
    shares = [members[start:end] for start, end in pairwise(edges)]
    key = secrets.token_bytes(32)
    with ExitStack() as resources:
        listener = resources.enter_context(Listener((pool.host, 0), backlog=2 * count, authkey=key))
        address: Any = listener.address
        stopped = resources.enter_context(stop_signals(lambda: _wake(address)))
        calls = [pool.submit(take_part, work, share, address, key, device) for share in shares]
        for call in calls:
            call.add_done_callback(lambda _: _wake(address))
        connections: dict[int, Connection] = {}
        """Connections of the shares whose processes take part, by their first member."""
        while len(connections) < count:
            with suppress(AuthenticationError, EOFError, OSError):  # it was only woken
                connection = listener.accept()
                connections[int(connection.recv_bytes())] = resources.enter_context(connection)
            for share, call in zip(shares, calls, strict=True):
                if call.done():  # before it has taken part
                    _result(name, share, call)
            if stopped:
                raise KeyboardInterrupt
        by_first = {share[0]: (name, share, call) for share, call in zip(shares, calls, strict=True)}
        connections = {first: connections[first] for first in by_first}
        while connections:
            ended = _meet(connections, stopped, on_step)
            for first in ended:
                _result(*by_first[first])
            if together and ended and connections:
                raise _gone(name, by_first[ended[0]][1], "was stopped by a signal")
        return [_result(*call_of_share) for call_of_share in by_first.values()]


def _wake(address: tuple[str, int]) -> None:
    with suppress(OSError):
        socket.create_connection(address).close()


def _meet(
    connections: dict[int, Connection], stopped: Sequence[int], on_step: Callable[[], object]
) -> list[int]:
    """Hold a meeting; return which of the processes have ended instead, and drop their connections."""
    asked: dict[int, Mapping[str, Any]] = {}
    for first, connection in connections.items():
        with suppress(EOFError, OSError):
            data = connection.recv_bytes()
            asked[first] = from_bytes(data) if data else _NOTHING
    values = {member: value for request in asked.values() for member, value in request["values"]}
    for first, request in asked.items():
        members = (
            values
            if request["wanted"] is None
            else [member for member in request["wanted"] if member in values]
        )
        answer = {"values": [[member, values[member]] for member in members], "stop": stopped[:1]}
        with suppress(OSError):  # it has died, and the next meeting finds so
            connections[first].send_bytes(to_bytes(answer) if any(answer.values()) else b"")
    if any(request["wanted"] is None for request in asked.values()):
        on_step()
    ended = [first for first in connections if first not in asked]
    for first in ended:
        del connections[first]
    return ended


def _result(name: str, share: Sequence[int], call: Future[Any]) -> Any:
    """Return what a process has returned, or raise its error."""
    try:
        result = call.result()
    except Exception as error:  # Ray raises many kinds
        raise _gone(name, share, "was killed (by hand, or out of memory)") from error
    if isinstance(result, AntiphonError):
        raise result
    return result


def _gone(name: str, share: Sequence[int], how: str) -> RunError:
    line = f"the process of members {share[0]} to {share[-1]} {how}"
    return RunError(
        f"{name}: {line}; {with_imports(f'antiphon resume {name}')} continues from the latest checkpoints"
    )


# --- the processes -----------------------------------------------------------------------------------------


class _Meeting:
    """The meetings of a process (`Meeting`)."""

    def __init__(self, connection: Connection, device: str) -> None:
        self._connection, self._device, self._stopped = connection, device, False

    def __call__(
        self, values: Mapping[int, Any], members: Collection[int] | None = None
    ) -> Mapping[int, Any]:
        request = {"values": list(values.items()), "wanted": None if members is None else list(members)}
        try:
            self._connection.send_bytes(b"" if request == _NOTHING else to_bytes(request))
            data = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise MemoryError("another process of the population has ended") from None
        answer = from_bytes(data) if data else {"values": [], "stop": []}
        if answer["stop"] and not self._stopped:
            self._stopped = True
            pass_on(answer["stop"][0])  # the training loop ends after this step, as that of each process
        on_device = lambda leaf: leaf.to(self._device) if isinstance(leaf, torch.Tensor) else leaf
        return dict(mapped(answer["values"], on_device))


def take_part(work: Work, share: Sequence[int], address: tuple[str, int], key: bytes, device: str) -> object:
    """Do the work on a share of the members in this process; return an error as one that any process can load."""
    try:
        with Client(address, authkey=key) as connection:
            connection.send_bytes(b"%d" % share[0])
            return work(share, _Meeting(connection, device))
    except AntiphonError as error:
        return error
    except Exception as error:  # noqa: BLE001  (anything that a user's module may raise)
        return RunError(f"{type(error).__name__}: {error}")
