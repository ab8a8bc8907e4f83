"""Arguments that are texts: one with bytes that are not UTF-8 is refused as a wrong argument."""

from __future__ import annotations

import click

from stream_vlm.types import StreamError
from stream_vlm.unicode_text import check_text


class CheckedText(click.types.StringParamType):
    """A text of the command line, in UTF-8.

    Python puts a lone surrogate into an argument for every byte that is not UTF-8. Neither a
    tokenizer nor the memory takes one.
    """

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the text; fail as for any wrong argument if it is no text."""
        text = str(super().convert(value, param, ctx))
        try:
            return check_text(text, "the argument")
        except StreamError as error:
            self.fail(str(error), param, ctx)


def with_checked_texts(command: click.Command) -> click.Command:
    """Return `command`, whose texts, and those of its subcommands, are checked from now on.

    Paths are left alone: the name of a file may have any bytes.
    """
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = CheckedText()
    if isinstance(command, click.Group):
        for part in command.commands.values():
            with_checked_texts(part)
    return command
