"""List what antiphon is made of in this environment: each distribution with its version and licence, and a CycloneDX file.

`python .ci/sbom.py FILE` prints the table and writes the software bill of materials (CycloneDX 1.6, JSON) of antiphon and
everything that it needs, extras included as far as they are installed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "antiphon"
_LONGEST_LICENCE = 60
"""Characters of a field `License` that is a name and not the licence's text."""
_NO_EXTRAS = frozenset({"dev", "docs"})
"""Extras of antiphon for work on it, no part of what it needs."""
_VENDORED = (
    {
        "type": "library",
        "bom-ref": "pkg:npm/uplot@1.6.32",
        "name": "uplot",
        "version": "1.6.32",
        "purl": "pkg:npm/uplot@1.6.32",
        "licenses": [{"license": {"id": "MIT"}}],
    },
    {
        "type": "data",
        "bom-ref": "data:digits",
        "name": "Optical Recognition of Handwritten Digits",
        "licenses": [{"license": {"id": "CC-BY-4.0"}}],
    },
    {
        "type": "data",
        "bom-ref": "data:moby-dick-beginning",
        "name": "Moby-Dick, its beginning",
        "licenses": [{"license": {"name": "public domain"}}],
    },
)
"""What the repository holds of others; their licences are beside the files."""


@dataclass(frozen=True)
class Part:
    """A distribution that antiphon needs.

    Attributes:
        name: Normalised.
        licence: As its metadata state it; empty where they do not.
        needs: Names of the distributions that it requires here.
        extras: Extras of antiphon that ask for it; empty for those that antiphon always needs.
    """

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]
    extras: frozenset[str] = field(default=frozenset())

    @property
    def purl(self) -> str:
        """The package URL."""
        return f"pkg:pypi/{self.name}@{self.version.replace('+', '%2B')}"


def parts() -> dict[str, Part]:
    """Return antiphon and all that it needs by name; of an extra, what is installed.

    Raises:
        PackageNotFoundError: antiphon, or something that it always needs, is not installed.
    """
    found = _closure(frozenset())
    of_extras: dict[str, set[str]] = {}
    extras = sorted(set(distribution(ROOT).metadata.get_all("Provides-Extra") or ()) - _NO_EXTRAS)
    whole = dict(found)
    for extra in extras:
        for name, part in _closure(frozenset({extra})).items():
            if name not in found:
                of_extras.setdefault(name, set()).add(extra)
                whole[name] = part
    root = whole[ROOT]
    direct = {
        name for extra in extras for name in _needs(distribution(ROOT), frozenset({extra})) if name in whole
    }
    whole[ROOT] = Part(root.name, root.version, root.licence, tuple(sorted(direct)))
    return {
        name: Part(part.name, part.version, part.licence, part.needs, frozenset(of_extras.get(name, ())))
        for name, part in sorted(whole.items())
    }


def _closure(extras: frozenset[str]) -> dict[str, Part]:
    """Return antiphon and what it needs with some of its extras."""
    found: dict[str, Part] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(ROOT, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            here = distribution(name)
        except PackageNotFoundError:
            if not extras:
                raise
            continue
        required = list(_required(here, wanted))
        before = found[name].needs if name in found else ()
        needs = tuple(sorted({*before, *(canonicalize_name(r.name) for r in required)}))
        found[name] = Part(name, here.version, licence_of(here), needs)
        waiting += [(canonicalize_name(r.name), frozenset(r.extras)) for r in required]
    return {
        name: Part(part.name, part.version, part.licence, tuple(n for n in part.needs if n in found))
        for name, part in found.items()
    }


def _required(of: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what a distribution requires on this machine with some of its extras."""
    for line in of.requires or ():
        required = Requirement(line)
        environments: list[dict[str, str]] = [{"extra": extra} for extra in (extras or {""})]
        if required.marker is None or any(required.marker.evaluate(each) for each in environments):
            yield required


def _needs(of: Distribution, extras: frozenset[str]) -> set[str]:
    return {canonicalize_name(required.name) for required in _required(of, extras)}


def licence_of(of: Distribution) -> str:
    """Return the licence in a distribution's metadata: an SPDX expression, a name, or names of its classifiers."""
    expression = of.metadata.get("License-Expression")
    if expression:
        return str(expression)
    text = str(of.metadata.get("License") or "").strip()
    if text and "\n" not in text and len(text) <= _LONGEST_LICENCE and "Copyright" not in text:
        return text
    classifiers = [c for c in of.metadata.get_all("Classifier") or () if c.startswith("License ::")]
    return " or ".join(c.rpartition(" :: ")[2] for c in classifiers)


def bill(found: dict[str, Part]) -> dict[str, Any]:
    """Return the bill of materials of these parts as a CycloneDX document, the same for the same parts."""
    root = found[ROOT]
    components = [_component(part) for name, part in found.items() if name != ROOT]
    vendored = [str(item["bom-ref"]) for item in _VENDORED]
    dependencies = [
        {
            "ref": part.purl,
            "dependsOn": [found[name].purl for name in part.needs] + (vendored if part is root else []),
        }
        for part in found.values()
    ] + [{"ref": ref} for ref in vendored]
    body = {
        "metadata": {"component": _component(root) | {"type": "application"}},
        "components": [*components, *_VENDORED],
        "dependencies": dependencies,
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:16]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest, version=4)}",
        "version": 1,
        **body,
    }


def _component(part: Part) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "scope": "optional" if part.extras else "required",
    }
    if part.licence:
        component["licenses"] = [{"license": {"name": part.licence}}]
    if part.extras:
        component["properties"] = [
            {"name": "antiphon:extra", "value": extra} for extra in sorted(part.extras)
        ]
    return component


def table(found: dict[str, Part]) -> Iterator[str]:
    """Yield a line for each part: name, version, licence, and the extras that need it."""
    rows = [("distribution", "version", "licence", "needed by")]
    rows += [
        (part.name, part.version, part.licence or "?", ", ".join(sorted(part.extras)) or "all")
        for name, part in found.items()
        if name != ROOT
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])


def main(arguments: Sequence[str]) -> int:
    """Print the table and write the file; 1 where a distribution states no licence."""
    path = Path(arguments[0])
    found = parts()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bill(found), indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(found)))
    unknown = [part.name for part in found.values() if not part.licence]
    print(f"\n{len(found) - 1} distributions; {path} holds their bill of materials")
    if unknown:
        print(f"no licence stated by {', '.join(unknown)}: look it up before you ship it", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
