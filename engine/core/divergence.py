"""Divergence: what is not finite, or too long, never reaches a parameter (semantics 32).

On a GPU every look at a number stops the stream of work. There the guard leaves the numbers on the device: a step that
diverged is skipped by the optimisers themselves, and so is every step after it; the next synchronisation reports which
agents diverged, and when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.errors import DivergenceError

__all__ = ["Divergence", "Guard", "Report"]


@dataclass(frozen=True)
class Report:
    """One line about agents, with their names as data.

    Attributes:
        step: When.
        text: The line, with `{agents}` for the quoted names and `{channel}` for the channel's.
        agents: Whom it concerns: those of a learning group, or the end of a channel.
        channel: The channel, where it concerns one.
    """

    step: int
    text: str
    agents: tuple[str, ...]
    channel: str = ""

    def __str__(self) -> str:
        agents = ", ".join(f"'{name}'" for name in self.agents)
        return self.text.format(agents=agents, channel=self.channel)


@dataclass
class Divergence:
    """Finds what has diverged, and reports it.

    Attributes:
        quarantine: Whether the others go on; else a divergence is an error.
        bound: The largest norm that is none; None: any finite.
        stopped: Replicas that a divergence has stopped while others go on, with what it was (`ReplicaDivergence`).
        events: What was shortened (the first time) or put into quarantine: (step, one line).
    """

    quarantine: bool = False
    bound: float | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)

    def fine(self, numbers: list[Tensor]) -> bool:
        """Whether one look at all of them shows that nothing is wrong; where there is a bound it never does."""
        if not numbers:
            return True
        return self.bound is None and math.isfinite(torch.stack(torch._foreach_norm(numbers)).sum().item())

    def members(self, count: int, gradients: Sequence[Tensor], beside: Sequence[Tensor]) -> dict[int, str]:
        """Return which of `count` members of a stack have diverged, and what is wrong with each.

        Args:
            count: N.
            gradients: [N, …] each: to be finite, and no longer than the bound.
            beside: [N, …] or rows: to be finite too, like losses and what goes back.
        """
        if not gradients and not beside:
            return {}
        flat = [t.reshape(count, -1) for t in gradients]
        finite = torch.stack([t.isfinite().all(1) for t in [*flat, *(b.reshape(count, -1) for b in beside)]])
        found = {n: "is not finite" for n, sound in enumerate(finite.all(0).tolist()) if not sound}
        if self.bound is not None and flat:
            lengths = torch.stack([t.norm(dim=1) for t in flat]).norm(dim=0)
            for n, length in enumerate(lengths.tolist()):
                if n not in found and length > self.bound:
                    found[n] = f"is longer than training.bound {self.bound:g}"
        return found

    def report(self, found: Report) -> None:
        """Note a quarantine, or raise.

        Raises:
            DivergenceError: There is no quarantine.
        """
        if not self.quarantine:
            raise DivergenceError(str(found))
        self.note(found)

    def note(self, found: Report) -> None:
        """Note an event."""
        self.events.append((found.step, str(found)))


class Guard:
    """Remembers on the device the first step at which something was not finite.

    Args:
        device: Where.

    Attributes:
        tripped: [] float32: 1 from that step on; what optimisers are told to skip by.
        step: [] int64: that step; -1: none.
        names: By stack, [N] bool: whose numbers they were.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)
        self.step = torch.full((), -1, dtype=torch.int64, device=device)
        self.names: dict[str, Tensor] = {}

    def look(self, name: str, count: int, numbers: Sequence[Tensor | None], step: int) -> None:
        """Look at the numbers of a stack's members, on the device.

        Args:
            name: Of the stack.
            count: N.
            numbers: [N, …], or rows, each.
            step: The step.
        """
        found = [t.reshape(count, -1).isfinite().all(1) for t in numbers if t is not None]
        if not found:
            return
        broken = torch.logical_not(torch.stack(found).all(0))
        first = self.tripped == 0
        known = self.names.get(name)
        mine = broken & (first | (self.step == step))
        self.names[name] = mine if known is None else known | mine
        self.step = torch.where(first & broken.any(), step, self.step)
        self.tripped = torch.maximum(self.tripped, broken.any().to(self.tripped.dtype))

    def frozen(self, before: Tensor, after: Tensor) -> Tensor:
        """Return `after`, or `before` once something was not finite."""
        return torch.where(self.tripped > 0, before, after)

    def read(self) -> tuple[int, dict[str, list[int]]] | None:
        """Wait for the device; return the step and the members, by stack; None: all is well."""
        if not float(self.tripped):
            return None
        return int(self.step), {
            name: members
            for name, mask in self.names.items()
            if (members := mask.nonzero().flatten().tolist())
        }
