"""The link between parts of a run: the most bits that the line carries, and the fewest steps that hide it, measured before the run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from math import ceil
from typing import NamedTuple, Self, cast

from antiphon.base.errors import DivergenceError, ScenarioError
from antiphon.base.spec import AUTO
from antiphon.distributed.coordinator import open_parts
from antiphon.distributed.parts.cut import sample_bytes
from antiphon.distributed.parts.placement import cut_channels, placement_for
from antiphon.distributed.ray.ray_parts import RayParts
from antiphon.distributed.ray.worker import MeasuredLine
from antiphon.distributed.settings import FLOATS, PartsSettings
from antiphon.engine.heart.system import System
from antiphon.engine.live_system import LiveSystem, Settings
from antiphon.scenarios import Scenario
from antiphon.scenarios.channel_specs import LONGEST_DELAY

_WARM, _MEASURED = 4, 8
_UNHIDDEN = 0.05
"""Share of a step by which the line may stay unhidden."""
_FILLED = 0.9
"""Share of a step that exchanges may take up on a line, whose speed varies."""
_AT_ONCE = 1e-3
"""Seconds of an exchange which the processors take, rather than the line."""
_RESENT = 3
"""Latencies until a packet is there that was lost: one that follows it, the word that it is missing, and the packet again."""
_BITS = (FLOATS, 16, 8, 4)


class LinkChoice(NamedTuple):
    """What a run in parts chooses for links that are `auto`: steps from one part to the next, and bits of a component."""

    delay: int = 1
    bits: int = FLOATS

    @classmethod
    def for_lines(
        cls, lines: Sequence[MeasuredLine], step: float, shorter: Mapping[int, Sequence[float]]
    ) -> Self:
        """Return the most bits with which exchanges take less time than a step, and the fewest steps that hide them.

        What leaves after a step is there before it is waited for; on a line that loses packets, also what is sent again. The slowest part
        computes a step for `step` seconds; `shorter` has by bits, the most first, of each line the bytes that exchanges would save.
        """

        def taken(bits: int) -> list[float]:
            pairs = zip(lines, shorter[bits], strict=True)
            return [line.seconds * (1 - less / max(1, line.nbytes)) for line, less in pairs]

        free = max(_FILLED * step, _AT_ONCE)
        bits = next((bits for bits in shorter if max(taken(bits), default=0.0) <= free), min(shorter))
        seconds = taken(bits)
        latencies = [line.latency * (_RESENT if line.loses else 1) for line in lines]
        arrivals = map(sum, zip(latencies, seconds, strict=True))
        steps = 1 + max(0, ceil(max(arrivals, default=0.0) / max([step, *seconds]) - _UNHIDDEN))
        return cls(min(LONGEST_DELAY, steps), bits)


def with_chosen_links(
    scenario: Scenario, division: PartsSettings, settings: Settings
) -> tuple[Scenario, PartsSettings]:
    """Return a scenario with numbers in place of delays and bits that are `auto`, and its division with these.

    Where parts wait for one another across a line, it is measured: the parts take steps with delays of 1 and messages of floats
    (`LinkChoice.for_lines`); elsewhere it is a delay of 1 and floats.
    """
    automatic = scenario.automatic
    for name in ("delay", "bits"):
        if getattr(division, name) is not None and (division.one_process or name not in automatic):
            raise ScenarioError(
                f"parts.{name}: no channel between parts has link: {{{name}: auto}}; leave out {name}"
            )
    missing = [name for name in automatic if getattr(division, name) is None]
    if division.one_process or division.cluster is not None or not automatic:
        return scenario, division
    with LiveSystem(scenario.with_delay(1, bits=_quantised(division.bits)), settings) as trial:
        placement = placement_for(trial, division.count, division.placement)
        division, choice = division.model_copy(update={"placement": placement}), LinkChoice()
        if missing and division.ray is not None:
            automatic_bits = [c.name for c in scenario.channels if c.link.written_bits == AUTO]
            parts = cast(RayParts, open_parts(trial, division))
            with closing(parts), suppress(DivergenceError):  # the run itself says so, at its step
                choice = _measured(parts, trial.system, automatic_bits if "bits" in missing else ())
    division = division.model_copy(update={name: getattr(choice, name) for name in missing})
    return scenario.with_delay(division.delay or 1, placement, _quantised(division.bits)), division


def _quantised(bits: int | None) -> int | None:
    return None if bits == FLOATS else bits


def _measured(parts: RayParts, system: System, channels: Collection[str]) -> LinkChoice:
    """Measure the lines between parts, which are at step 0, and choose for them; `channels`: those whose bits are to be chosen."""
    parts.advance(_WARM)
    before = parts.statistics()
    parts.advance(_WARM + _MEASURED)
    pairs = zip(before, parts.statistics(), strict=True)
    step = max(after.computing - earlier.computing for earlier, after in pairs) / _MEASURED
    lines, placement = parts.lines(), parts.placement
    sizes: dict[tuple[int, int], list[int]] = {}
    for channel in cut_channels(system, placement):
        if channel.name in channels:
            parts_of_ends = placement[channel.sender], placement[channel.receiver]
            sizes.setdefault(parts_of_ends, []).append(channel.content.size)

    def nbytes(line: MeasuredLine, bits: int) -> float:
        width, own = system.dtype.itemsize, sizes.get((line.sender, line.receiver), [])
        return system.batch * sum(sample_bytes(size, _quantised(bits), width) for size in own)

    shorter = {
        bits: [nbytes(line, FLOATS) - nbytes(line, bits) for line in lines]
        for bits in (_BITS if sizes else (FLOATS,))
    }
    return LinkChoice.for_lines(lines, step, shorter)
