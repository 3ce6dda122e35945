"""Cluster profiles: machines, their speed, and the links between them, as a YAML file.

A file begins with `cluster: NAME`. Times are in seconds, sizes in bytes; nothing here is measured or simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Name, Sequence, Spec
from antiphon.scenarios.yaml_text import DocumentSpec, read_file

Seconds = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Spread = Annotated[float, Field(ge=0, le=3)]
"""Standard deviation of the logarithm of a factor with mean 1 (log-normal)."""


class StragglerSpec(Spec):
    """Stragglers: random steps that take much longer than others.

    Attributes:
        share: The probability that a step is a straggler.
        factor: The factor by which a straggler takes longer.
    """

    share: Probability
    factor: Annotated[float, Field(ge=1)]


class ComputeSpec(Spec):
    """Time of a machine's step: `step + flop x FLOP`, times a factor with mean 1, times the factor of stragglers.

    Attributes:
        step: Seconds of every step, whatever is computed.
        flop: Seconds per floating-point operation.
        spread: Standard deviation of the logarithm of the step time.
        stragglers: Random steps that take much longer; None: there are none.
    """

    step: Seconds = 0.0
    flop: Seconds = 0.0
    spread: Spread = 0.0
    stragglers: StragglerSpec | None = None


class MachineSpec(Spec):
    """A group of equal machines.

    Attributes:
        count: Number of machines.
        compute: Replaces the cluster's.
    """

    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    compute: ComputeSpec | None = None


class MachineLinkSpec(Spec):
    """The network between any two machines of two groups, or of one. Both directions are equal and share no bandwidth.

    Attributes:
        between: The two groups; the same name twice for machines of one group.
        latency: One-way seconds per call, whatever its size.
        bandwidth: Bytes per second; None: unlimited.
        jitter: Standard deviation of the logarithm of the latency.
        loss: The probability that a call is lost.
    """

    between: Annotated[tuple[Name, ...], Sequence, Field(min_length=2, max_length=2)]
    latency: Seconds = 0.0
    bandwidth: Positive | None = None
    jitter: Spread = 0.0
    loss: Probability = 0.0

    @model_validator(mode="after")
    def _jitter_is_of_a_latency(self) -> Self:
        if self.jitter and not self.latency:
            raise DocumentError(
                ("jitter",), "multiplies the latency, and latency is 0; give it, or leave jitter out"
            )
        return self

    def transfer(self, nbytes: float) -> float:
        """Return the seconds for which a call occupies the link, from its size in bytes."""
        return 0.0 if self.bandwidth is None else nbytes / self.bandwidth


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster."""

    name: str
    """`group-0`, `group-1`, …"""
    group: str
    compute: ComputeSpec


class ClusterProfile(DocumentSpec):
    """A cluster: groups of machines and the links between them.

    Attributes:
        cluster: Its name.
        about: A description, with the source of its values.
        machines: Groups of equal machines by name.
        links: Links between groups: one for every pair of groups, and one within every group of several machines.
        compute: Compute time of machines whose group does not set it.
    """

    library: ClassVar[Path] = Path(__file__).with_name("profiles")

    cluster: Name
    about: str = ""
    machines: Annotated[dict[Name, MachineSpec], Field(min_length=1)]
    links: Annotated[tuple[MachineLinkSpec, ...], Sequence] = ()
    compute: ComputeSpec

    written: ClassVar[frozenset[str]] = frozenset({"cluster", "machines"})

    @model_validator(mode="after")
    def _links_are_given_once(self) -> Self:
        pairs: set[frozenset[str]] = set()
        for index, link in enumerate(self.links):
            if frozenset(link.between) in pairs:
                problem = f"a second link between {' and '.join(link.between)}; leave one out"
                raise DocumentError(("links", index), problem)
            pairs.add(frozenset(link.between))
        for first, second in combinations_with_replacement(self.machines, 2):
            needed = first != second or self.machines[first].count > 1
            if needed and frozenset((first, second)) not in pairs:
                fix = f"add {{between: [{first}, {second}], latency: SECONDS}}"
                raise DocumentError(("links",), f"none between {first} and {second}; {fix}")
        return self

    @property
    def size(self) -> int:
        return sum(group.count for group in self.machines.values())

    def machine(self, number: int) -> Machine:
        """Return a machine by its number, from 0."""
        if not 0 <= number < self.size:
            numbering = f"it has {self.size}, numbered from 0 to {self.size - 1}"
            raise ScenarioError(f"{self.cluster}: no machine {number}; {numbering}")
        return self._machines[number]

    @cached_property
    def _machines(self) -> list[Machine]:
        """Of each group in turn, so that the first few come from every group."""
        return [
            Machine(f"{name}-{index}", name, group.compute or self.compute)
            for index in range(max(group.count for group in self.machines.values()))
            for name, group in self.machines.items()
            if index < group.count
        ]

    def link(self, sender: int, receiver: int) -> MachineLinkSpec:
        return self._links[frozenset((self.machine(sender).group, self.machine(receiver).group))]

    @cached_property
    def _links(self) -> dict[frozenset[str], MachineLinkSpec]:
        return {frozenset(link.between): link for link in self.links}


def find_profile(name_or_path: str | Path) -> ClusterProfile:
    """Return `two-cores`, `datacentre-100` or `continents-1000`, or read a profile from a YAML file."""
    name, names = str(name_or_path), ClusterProfile.library_names()
    if name in names:
        return ClusterProfile.of_library(name)
    if Path(name).suffix not in (".yaml", ".yml"):
        raise ScenarioError(f"cluster: no profile {name!r}{suggest(name, names)}; or give a .yaml file")
    return ClusterProfile.from_yaml(read_file(Path(name).expanduser()), name)
