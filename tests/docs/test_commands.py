"""The table of docs/commands.md: every command with its arguments and options, as the command line declares them."""

from __future__ import annotations

from pathlib import Path

from antiphon.cli import COMMANDS, command

PAGE = Path(__file__).parents[2] / "docs/commands.md"


def row(name: str) -> str:
    words, options = [f"antiphon {name}"], []
    for declared in command(name).params:
        if declared.param_type_name == "argument":
            metavar = declared.metavar or declared.name.upper()
            words.append(metavar if declared.required else f"[{metavar.strip('[]')}]")
        else:
            options.append(f"`{declared.opts[0]}`")
    usage = " ".join(words).replace("|", "\\|")
    return f"| `{usage}` | {COMMANDS[name].summary} | {', '.join(options)} |"


def test_the_page_lists_what_the_command_line_declares() -> None:
    table = "\n".join(["| command | | options |", "|---|---|---|", *map(row, COMMANDS)])
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/commands.md needs this table:\n\n{table}"
