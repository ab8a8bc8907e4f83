"""`stream-vlm train`: makes the shipped model, or fine-tunes a Qwen-VL checkpoint."""

from __future__ import annotations

import click


@click.command(
    short_help="Make the shipped model, or fine-tune a Qwen-VL checkpoint.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Make the shipped model, or fine-tune CHECKPOINT on DATA.

    See `stream-vlm train --help` for the arguments.
    """
    # The trainer declares its own options; it is imported only here because that takes seconds.
    from stream_vlm_lab.training.train import command

    return command(arguments)
