"""Environments in other processes, several in each: one is called like an environment of this process."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from gymnasium.vector.utils import CloudpickleWrapper

from antiphon.envs.adaptors.cycles import Cycle
from antiphon.envs.adaptors.final_observation import close_world
from antiphon.envs.adaptors.turns import Turns
from antiphon.nets.isolation.global_numbers import seed_globally

_PATIENCE = 5.0
"""Seconds that a process has to end."""


class WorkerError(Exception):
    """An exception of an environment in another process: its type and text."""


class Remote:
    """An environment of PettingZoo in another process, with the parallel interface.

    Args:
        index: Its place in the process.
        local: An equal environment of this process, for what never changes.
    """

    def __init__(self, index: int, worker: Worker, local: Any) -> None:
        self._place, self._worker = index, worker
        self.possible_agents = tuple(local.possible_agents)
        self.observation_space, self.action_space = local.observation_space, local.action_space
        self.state_space = getattr(local, "state_space", None)
        self.metadata = getattr(local, "metadata", {})
        self.render_mode = getattr(local, "render_mode", None)
        self.turn_based = getattr(local, "turn_based", False)
        self.agents: list[str] = []
        self.on_turn = ""

    def send(self, call: str, *arguments: Any, **named: Any) -> None:
        """Begin a call; calls of a process are answered in their order. WorkerError where it has ended."""
        with _reaching():
            self._worker.connection.send((self._place, call, arguments, named))

    def receive(self) -> Any:
        """Return what the oldest call that has no answer returned; WorkerError if it raised."""
        with _reaching():
            error, result, self.agents, self.on_turn = self._worker.connection.recv()
        if error:
            raise WorkerError(error)
        return result

    def reset(self, **how: Any) -> Any:
        self.send("reset", **how)
        return self.receive()

    def step(self, actions: Any) -> Any:
        self.send("step", actions)
        return self.receive()

    def state(self) -> Any:
        self.send("state")
        return self.receive()

    def render(self) -> Any:
        self.send("render")
        return self.receive()

    def close(self) -> None:
        """End the process, with all its environments."""
        self._worker.close()


@contextmanager
def _reaching() -> Iterator[None]:
    """Raise WorkerError where a process has ended: at the end of its messages, or in the middle of one."""
    try:
        yield
    except (EOFError, ConnectionError):
        raise WorkerError("its process has ended") from None


class Worker:
    """A process that steps some environments.

    Args:
        factories: Functions that make the environments in the process.
    """

    def __init__(self, factories: Sequence[Callable[[], Any]]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        wrapped = [CloudpickleWrapper(factory) for factory in factories]
        self._process = multiprocessing.Process(target=_serve, args=(theirs, wrapped), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """End the process; nothing happens where it has ended."""
        with suppress(OSError):
            self.connection.send(None)
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.terminate()
        self.connection.close()


def _serve(connection: Connection, factories: Sequence[Callable[[], Any]]) -> None:
    """Answer calls of environments until there are no more.

    A Ctrl-C in the terminal reaches every process; the run's process finishes its step with these, and ends them.
    """
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    seed_globally(0)
    worlds = [parallel(factory()) for factory in factories]
    with suppress(EOFError):
        while (asked := connection.recv()) is not None:
            index, call, arguments, named = asked
            world, error, result = worlds[index], "", None
            if call == "reset" and named.get("seed") is not None:
                seed_globally(named["seed"])
            try:
                result = getattr(world, call)(*arguments, **named)
            except Exception as raised:  # noqa: BLE001  (anything somebody's environment may raise)
                error = " ".join(f"{type(raised).__name__}: {raised}".split())
            agents = [] if error else list(world.agents)
            connection.send((error, result, agents, getattr(world, "on_turn", "")))
    for world in worlds:
        close_world(world)


def parallel(world: Any) -> Any:
    """Return an environment of PettingZoo in its parallel interface."""
    kind = next((kind for kind in (Turns, Cycle) if kind.taken_in(world)), None)
    return world if kind is None else kind(world)


def stepped(worlds: Sequence[Any], actions: Sequence[Any]) -> list[Any]:
    """Take a step in each environment; those of other processes at the same time."""
    if not isinstance(worlds[0], Remote):
        return [world.step(action) for world, action in zip(worlds, actions, strict=True)]
    for world, action in zip(worlds, actions, strict=True):
        world.send("step", action)
    return [world.receive() for world in worlds]
