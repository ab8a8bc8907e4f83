"""`stream-vlm`: watch recordings without ROS, ask and keep the memory, make simulated streams,
train, and check the installation.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence

import click

from stream_vlm import __version__
from stream_vlm.types import StreamError

COMMANDS = {
    "run": "stream_vlm.cli.run:run",
    "replay": "stream_vlm.cli.run:replay",
    "recall": "stream_vlm.cli.recall:recall",
    "memory": "stream_vlm.cli.memory.commands:memory",
    "embed": "stream_vlm.cli.memory.embed:embed",
    "world": "stream_vlm_lab.cli.simulate:world",
    "train": "stream_vlm_lab.cli.train:train",
    "convert": "stream_vlm_lab.cli.convert_dataset:convert",
    "eval": "stream_vlm_lab.cli.eval:evaluate",
    "trace": "stream_vlm_lab.cli.verify_trace:trace",
    "doctor": "stream_vlm.cli.doctor:doctor",
}
"""Each command's name and where it lives; a module is imported when its command is asked for, so
that none pays for another's libraries.
"""


class LazyCommands(click.Group):
    """A group that knows the names of its commands and imports one only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stream-vlm")
def stream_vlm() -> None:
    """Watch a stream, speak when something happens, remember and recall."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for a fault of ours to explain, 2 for a
    wrong call, 130 when interrupted.
    """
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
