"""Types of the fields of agents and channels that accept several kinds of values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool

from antiphon.base.spec import AUTO, Count, FrozenMap, Name, SignalName, in_words

LONGEST_DELAY = 1024


def _key(value: int | str) -> int | str:
    """Return a key of digits as the number."""
    return int(value) if isinstance(value, str) and value.isdecimal() and str(int(value)) == value else value


def _part_name(value: object) -> object:
    """Return the name of a part that is given by its number, as of a Tuple."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Unroll = Annotated[Count | Literal["episode"], in_words("a whole number of ticks from 1, or 'episode'")]
Size = Annotated[
    Count | Annotated[tuple[Count, ...], Field(min_length=2, max_length=4, strict=False)] | None,
    in_words(
        "a whole number from 1, or up to four of them, such as [tokens, features] or [channels, height, width]"
    ),
]
Key = Annotated[
    Annotated[int, Field(ge=0)] | Name, AfterValidator(_key), in_words("a name, or a whole number from 0")
]
_Probability = Annotated[float, Field(gt=0, le=1)]
Learn = Annotated[StrictBool | _Probability, in_words("true, false or a probability above 0 and at most 1")]
_Steps = Annotated[int, Field(ge=0, le=LONGEST_DELAY)]
Delay = Annotated[
    _Steps | Annotated[tuple[_Steps, ...], Field(min_length=2, max_length=2, strict=False)] | Literal["auto"],
    in_words(f"a whole number of steps from 0 to {LONGEST_DELAY}, [there, back] or {AUTO}"),
]
Bits = Annotated[
    Annotated[int, Field(ge=1, le=16)] | Literal["auto"] | None,
    in_words(f"a whole number from 1 to 16, or {AUTO}"),
]
Acts = Annotated[
    StrictBool | SignalName,
    BeforeValidator(_part_name),
    in_words("true, or the key or number of a part of the action"),
]
Rewards = Annotated[
    Annotated[dict[SignalName, float], Field(min_length=1), AfterValidator(FrozenMap)] | None,
    BeforeValidator(lambda reward: {reward: 1.0} if isinstance(reward, str) else reward),
]
Align = Annotated[
    StrictBool | str | None,
    AfterValidator(lambda align: align or None),
    in_words("true or a channel such as 'a->b'"),
]
