"""Parameters that several parts of a cut model share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from antiphon.base.errors import ScenarioError
from antiphon.splitting.part_modules import ModelPart

Group = tuple[tuple[str, str], ...]


def tied_parameters(
    parts: Sequence[ModelPart],
    model: nn.Module,
    names: Sequence[str],
    tie: Literal["copy", "together"] | None,
) -> list[Group]:
    """Return the groups of parameters that are one in the model and several in the parts, each as (part, key).

    With `copy`, they become parameters of each part.

    Raises:
        ScenarioError: There are some, and `tie` does not say what shall become of them, or cannot be had.
    """
    if tie not in (None, "copy", "together"):
        raise ScenarioError(f"tie: {tie!r}; must be 'copy' or 'together'")
    learned = {key: p for key, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    groups: dict[nn.Parameter, list[tuple[str, str]]] = {}
    for name, part in zip(names, parts, strict=True):
        for key, _ in part.module.named_parameters():
            if key in learned:
                groups.setdefault(learned[key], []).append((name, key))
    tied = [tuple(group) for group in groups.values() if len(group) > 1]
    _check_statistics(parts, names)
    if not tied:
        return []
    listed = _listed(tied[0]) + (f" (and {len(tied) - 1} more)" if len(tied) > 1 else "")
    one_key = any(len({key for _, key in group}) < len(group) for group in tied)
    if tie is None:
        why = (
            "a module called twice, with a cut before every call, or a parameter read twice"
            if one_key
            else "shared weights"
        )
        ways = (
            "tie='together' (kept equal)"
            if one_key
            else "tie='copy' (independent) or tie='together' (kept equal)"
        )
        raise ScenarioError(f"{listed}: one parameter in several parts ({why}); move the cut, or give {ways}")
    if tie == "copy" and one_key:
        raise ScenarioError(
            f"tie='copy': {listed}: the model has one key for what would be several parameters; give tie='together', or "
            "move the cut"
        )
    if tie == "copy":
        of_name = dict(zip(names, parts, strict=True))
        for group in tied:
            for name, key in group[1:]:
                module = of_name[name].module
                separate(module, key, module.get_parameter(key).data)  # each run copies it
    return tied


def _listed(group: Group) -> str:
    """A shared parameter's keys, each with the parts that have it; of many the first and the last."""
    holders: dict[str, list[str]] = {}
    for name, key in group:
        holders.setdefault(key, []).append(name)
    short = {key: names if len(names) < 4 else [*names[:2], "…", names[-1]] for key, names in holders.items()}
    return " and ".join(f"'{key}' in {', '.join(names)}" for key, names in short.items())


def separate(module: nn.Module, key: str, value: Tensor) -> None:
    """Make a shared parameter of a module one of its own, with the memory of `value`."""
    path, _, name = key.rpartition(".")
    setattr(module.get_submodule(path), name, nn.Parameter(value))


def _check_statistics(parts: Sequence[ModelPart], names: Sequence[str]) -> None:
    """Refuse a module with running statistics in two parts: they would be two."""
    holders: dict[str, str] = {}
    for name, part in zip(names, parts, strict=True):
        for path, module in part.module.named_modules():
            if getattr(module, "track_running_stats", False) and holders.setdefault(path, name) != name:
                raise ScenarioError(
                    f"'{path}' is called in {holders[path]} and in {name}, and its running statistics cannot be in both; move "
                    "the cut, or make it two modules"
                )
