"""Mutations of documents: of their values, of the nodes that hold them, and of their text."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import yaml

_DUMPER: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper

_NUMBERS = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 1000, 20_000, 10**5, 10**6, 2**31 - 1, 2**31, 2**53, 2**63),
    *(10**9, 10**18, 10**30, -(10**30), int("9" * 400), 0.0, -0.0, 0.5, 1.5, -1.0, 1e-320, 1e300, -1e300),
    *(float("inf"), float("-inf"), float("nan")),
)
_WORDS = """
x $ $x $agents a->b a.b a__b episode state label image locked linear mlp conv critic local lstm gru null ~ no 1e3 0x1f nan é 日本 😀
../../etc/passwd /dev/zero /dev/random /proc/self/mem %s%s%n {0} {self} __import__('os').popen('false') os.popen antiphon.cli:main
"""
_ODD = ("", " ", "\x00", "\n", "a\nb", "\u202e", "\ud7ff", "\x1b[31m", "x" * 5000, "é" * 70_000)
_LARGE = 2**31 - 1
_NODES = (
    *([], [[]], [{}], [1, 2], [0], [-1], ["x"], ["x", "x"], [10**9, 10**9], [1] * 500, [_LARGE] * 2),
    *([None], [["x"]], ["image", "label"], {}, {"": 1}, {"id": "x"}, {"x": {"y": {}}}),
    *({"kind": "x"}, {"kind": "mlp"}, {"kind": []}, {"hidden": [_LARGE] * 3}, {"delay": _LARGE}),
    *({"kind": "conv", "hidden": [10**6, 10**6]}, {"kind": "lstm", "size": _LARGE}),
    *({str(n): n for n in range(200)}, [{"a": n} for n in range(200)], {"period": _LARGE, "phase": -1}),
    {"kind": "ring", "agents": 10**9},
    {"kind": "small_world", "agents": 2000, "neighbours": 1998, "rate": 1.0},
)
HOSTILE_VALUES: tuple[Any, ...] = (*_NUMBERS, *_WORDS.split(), *_ODD, *_NODES)
"""Values that no key expects, or numbers that are absurd."""
_RAW = (
    *("&a [*a]", "&a {b: *a}", "*nothing", "!!python/object/apply:os.popen ['false']", "!!python/name:os.popen"),
    *("!include /etc/passwd", "!!binary aGVsbG8=", "!!set {a, b}", "!!timestamp 2001-01-01", "!<tag:x> y", "!!int x"),
    *("[" * 300, "{a: " * 300, "- " * 300, "{a: 1, a: 2}", "? [a]\n: b", "<<: {a: 1}", "'", '"', "|", ">", "%", "@"),
    *("`", "---", "...", "--- a\n--- b", "%YAML 9.9", "\t", "\x07", "\ud800", "\ufeff", "# x", ": ", "[a, b", "{a"),
    *("\u2028", '"\\U00110000"', '"\\ud800"', "0o9", "1_000", "1" * 5000, "." * 10_000, "-" * 10_000, "a" * 100_000),
)  # fmt: skip
"""Fragments of YAML that are put into the text as they are."""


def mutated(text: str, case: random.Random) -> str:
    """Return a document with one to four mutations of its data, of its text or of both."""
    if case.random() < 0.7:
        data = copy.deepcopy(_data_of(text))
        for _ in range(case.choice((1, 1, 1, 2, 4))):
            data = changed(data, case)
        text = yaml.dump(data, Dumper=_DUMPER, sort_keys=False, allow_unicode=case.random() < 0.5)
        if case.random() < 0.85:
            return text
    for _ in range(case.choice((1, 1, 2, 4))):
        text = case.choice(_OF_TEXT)(text, case)
    return text


@cache
def _data_of(text: str) -> Any:
    return yaml.safe_load(text)


def changed(data: Any, case: random.Random) -> Any:
    """Change one place of a tree of lists and dicts."""
    places = list(_places(data))
    if not places:
        return copy.deepcopy(case.choice(HOSTILE_VALUES))
    holder, key = case.choice(places)
    chosen = case.random()
    if chosen < 0.5:
        holder[key] = copy.deepcopy(case.choice(HOSTILE_VALUES))
    elif chosen < 0.6:
        del holder[key]
    elif chosen < 0.7:
        other, its = case.choice(places)
        holder[key] = copy.deepcopy(other[its])
    elif chosen < 0.78:
        holder[key] = _nested(holder[key], case)
    elif chosen < 0.86 and isinstance(holder, dict):
        name = case.choice(("x", "", "$x", str(key)[:-1] or "y", f"{key}s", "__class__", "kind", "a" * 300))
        holder[name] = holder.pop(key)
    elif chosen < 0.93 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] * case.choice((-1, 10, 1000, 10**6, 0.5))
    else:
        holder[key] = [holder[key]] * case.choice((1, 2, 50, 3000))
    return data


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    waiting, seen = [data], set()
    while waiting:
        holder = waiting.pop()
        if not isinstance(holder, dict | list) or id(holder) in seen:
            continue
        seen.add(id(holder))
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            yield holder, key
            waiting.append(value)


def _nested(value: Any, case: random.Random) -> Any:
    for _ in range(case.choice((1, 5, 60, 80))):
        value = [value] if case.random() < 0.5 else {"a": value}
    return value


def _with_fragment(text: str, case: random.Random) -> str:
    """Put a fragment in place of a value, or at any place."""
    fragment = case.choice(_RAW)
    ends = [at for at, char in enumerate(text) if char == ":"]
    if ends and case.random() < 0.7:
        at = case.choice(ends) + 1
        end = text.find("\n", at)
        return f"{text[:at]} {fragment}{text[end:]}"
    at = case.randrange(len(text) + 1)
    return text[:at] + fragment + text[at:]


def _with_bomb(text: str, case: random.Random) -> str:
    """Put aliases that unfold to millions of values in place of a value, or after the document."""
    wide = case.choice((2, 10, 40))
    lines = [f"b0: &b0 [{', '.join(['x'] * wide)}]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * wide)}]" for n in range(1, case.choice((3, 9, 70)))]
    return "\n".join([*lines, text]) if case.random() < 0.5 else text + "\n" + "\n".join(lines)


def _without_piece(text: str, case: random.Random) -> str:
    at, size = case.randrange(len(text) + 1), case.choice((1, 1, 3, 20, 300))
    return text[:at] + text[at + size :]


_OF_TEXT: tuple[Callable[[str, random.Random], str], ...] = (
    *(_with_fragment, _with_fragment, _with_bomb, _without_piece),
)
