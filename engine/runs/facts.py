"""What the JSON files of a run directory hold, as far as anything reads it. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

__all__ = ["check_facts", "check_result"]

_MOST = 2**53
Whole: TypeAlias = Annotated[int, Field(ge=0, le=_MOST)]
Seed: TypeAlias = Annotated[int, Field(ge=-(2**64), le=2**64)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Word: TypeAlias = Annotated[str, Field(max_length=1000)]
Figures: TypeAlias = dict[str, Any]


class _Object(BaseModel):
    """An object of a file; what nothing reads may be there too."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)


class _Template(_Object):
    source: str
    text: str | None = None


class _Parts(_Object):
    placement: dict[str, Annotated[int, Field(ge=0, le=10**6)]] = {}
    count: Annotated[int, Field(ge=1, le=10**6)] | None = None
    mode: Word = "lockstep"
    ray: Word | None = None


class _Profile(_Object):
    cluster: Word


class _Free(_Object):
    queue: Annotated[int, Field(ge=1, le=_MOST)]
    staleness: Annotated[int, Field(ge=1, le=_MOST)]


class _Virtual(_Object):
    profile: _Profile
    free: _Free
    step_seconds: list[Seconds]


class _Origin(_Object):
    """Where a graft goes on from."""

    run: str
    step: Whole


class _Weights(_Object):
    """What an agent has of another run."""

    agent: str
    giver: str = Field(alias="from")
    step: Whole
    from_step: Whole


class RunFacts(_Object):
    """run.json.

    Attributes:
        steps: To be taken; `step`: taken.
        dtype: Of all floats, by torch's name.
        matmul_precision: Of products of float32 matrices, by torch's name.
        threads: Of torch.
        exit: `running`, `done`, `stopped`, `failed`, `diverged`, …
        together: Seeds that shared the process.
        changes: Step, key and value of what `set` changed.
    """

    format: int
    scenario: Word
    seed: Seed
    steps: Whole
    step: Whole
    seconds: Seconds
    device: Word
    dtype: Literal["float32", "float64", "float16", "bfloat16"]
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    threads: Annotated[int, Field(ge=1, le=1024)]
    backend: Word
    warnings: list[str]
    exit: Word
    error: str | None = None
    variant: str | None = None
    values: dict[str, Any] = {}
    template: _Template | None = None
    command: list[str] = []
    versions: dict[str, str] = {}
    git: str | None = None
    started: str | None = None
    finished: str | None = None
    together: list[Seed] | None = None
    alone_from: Whole | None = None
    changes: list[Annotated[tuple[Whole, str, Any], Strict(False)]] = []
    parts: _Parts | None = None
    virtual: _Virtual | None = None
    origin: _Origin | None = None
    weights: list[_Weights] = []


class _Event(_Object):
    step: Seed
    event: str


class _OfChannel(_Object):
    """Figures that every channel has, null where its coupling gives none, among others."""

    __pydantic_extra__: dict[str, float | None]
    cosine: float | None
    norm_ratio: float | None
    sg_loss: float | None


class Result(_Object):
    """result.json."""

    scenario: Word
    seed: Seed
    steps: Whole
    seconds: Seconds
    run_dir: str
    exit: Word
    readout: str | list[str]
    variant: str | None
    accuracy: float | None
    error: float | None
    bits: float | None
    examples: Whole | None
    env: dict[str, float | None]
    agents: dict[str, dict[str, float | None]]
    channels: dict[str, _OfChannel]
    events: list[_Event]


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raise ValueError where run.json lacks something that is relied on, or has another kind of it."""
    _check(RunFacts, facts)
    if "virtual" in facts and not (facts.get("parts") or {}).get("placement"):
        raise ValueError("no parts.placement")


def check_result(result: Mapping[str, Any]) -> None:
    """Raise ValueError where result.json lacks something that is relied on, or has another kind of it."""
    _check(Result, result)


def _check(model: type[BaseModel], content: Mapping[str, Any]) -> None:
    try:
        model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:60]
        raise ValueError(f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
