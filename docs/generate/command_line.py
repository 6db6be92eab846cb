"""The tables of commands and options, from the typer applications themselves."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import loadtest.__main__
import videoanalysis.cli
from docs.generate.page import ROOT, fill, table
from videoanalysis.cli.exit_code import ExitCode

PAGE = ROOT / "docs" / "command-line.md"
APPLICATIONS = {"videoanalysis": videoanalysis.cli.app, "python -m loadtest": loadtest.__main__.app}


def generated() -> dict[Path, str]:
    """The contents of the page of commands."""
    parts = [_section(name, command) for name, command in commands()]
    codes = table(("code", "meaning"), [(f"`{code}`", code.meaning) for code in ExitCode])
    return {PAGE: fill(PAGE, {"exit codes": codes, "commands": "\n\n".join(parts)})}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be run, with the words that run it."""
    for name, application in APPLICATIONS.items():
        yield from _leaves(name, typer.main.get_command(application))


def parameters(command: Any) -> Iterator[tuple[str, Any]]:
    """Arguments and options of `command` with what the caller writes for each, without --help."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield parameter.metavar or parameter.name.upper(), parameter
        elif "--help" not in parameter.opts:
            yield ", ".join([*parameter.opts, *parameter.secondary_opts]), parameter


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, inside in command.commands.items():
        yield from _leaves(f"{name} {word}", inside)


def _section(name: str, command: Any) -> str:
    rows = [
        (f"`{written}`", _default(parameter), " ".join((parameter.help or "").split()))
        for written, parameter in parameters(command)
    ]
    text = inspect.cleandoc(command.help or "")
    return f"## {name}\n\n{text}\n\n{table(('argument or option', 'default', 'meaning'), rows)}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "**required**"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default in (None, "", False, []) or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"
