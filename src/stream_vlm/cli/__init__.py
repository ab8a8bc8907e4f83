"""The command line `stream-vlm`: watch recordings without ROS, search the memory, check the setup.

Other packages add commands through entry points of the group `stream_vlm.commands`; stream_vlm_lab
adds training, evaluation and simulation this way.
"""

from __future__ import annotations

import importlib
import io
import logging
import sys
from collections.abc import Sequence

import click

from stream_vlm import __version__, extensions
from stream_vlm.cli.options.texts import with_checked_texts
from stream_vlm.types import StreamError

COMMANDS = {
    "run": "stream_vlm.cli.run:run",
    "replay": "stream_vlm.cli.run:replay",
    "recall": "stream_vlm.cli.recall:recall",
    "memory": "stream_vlm.cli.memory.commands:memory",
    "doctor": "stream_vlm.cli.doctor:doctor",
}
"""The library's own commands and where each is defined.

A module is imported only when its command is used, so that no command waits for the libraries of
another.
"""


class LazyCommands(click.Group):
    """A command group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the library's own commands first, then those that other packages add."""
        return [
            *COMMANDS,
            *(name for name in extensions.added(extensions.COMMANDS) if name not in COMMANDS),
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None when there is none of that name.

        For a command that cannot be imported, return one that reports what to install.
        """
        command: click.Command
        if cmd_name in COMMANDS:
            module, name = COMMANDS[cmd_name].split(":")
            command = getattr(importlib.import_module(module), name)
            return with_checked_texts(command)
        added = extensions.added(extensions.COMMANDS).get(cmd_name)
        if added is None:
            if cmd_name in extensions.LAB_COMMANDS:
                return _unavailable(cmd_name, f"needs stream_vlm_lab: {extensions.INSTALL_LAB}")
            return None
        try:
            command = added.load()
        except ModuleNotFoundError as error:
            return _unavailable(cmd_name, _missing(cmd_name, error))
        return with_checked_texts(command)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command.

        Raises:
            StreamError: it imports a library that is not installed; the message names the library
                and what to install.
        """
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            name = ctx.invoked_subcommand or ""
            raise StreamError(f"{name} {_missing(name, error)}") from error


def _missing(command: str, error: ModuleNotFoundError) -> str:
    """Return which library is missing, and what to install for `command`."""
    library = (error.name or str(error)).partition(".")[0]
    of_the_lab = command in extensions.LAB_COMMANDS
    install = extensions.INSTALL_LAB if of_the_lab else f"pip install {library}"
    return f"needs {library}, which is not installed: {install}"


def _unavailable(name: str, reason: str) -> click.Command:
    """Return a command that takes any arguments and fails with `reason`."""

    def fail(arguments: tuple[str, ...]) -> None:
        raise StreamError(f"{name} {reason}")

    return click.Command(
        name,
        callback=fail,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        short_help=f"Cannot run: {reason.partition(':')[0]}.",
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stream-vlm")
def stream_vlm() -> None:
    """Watch a video stream, report events, and search the memory of what was seen."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Returns:
        0 on success, 1 when the command failed, 2 for wrong arguments, 130 when interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file may have bytes that are not UTF-8; printing it must not fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = stream_vlm.main(args=arguments, prog_name="stream-vlm", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stream-vlm: interrupted", err=True)
        return 130
    except StreamError as error:
        click.echo(f"stream-vlm: {error}", err=True)
        return 1
    return status if isinstance(status, int) else 0
