"""`stream-vlm train`: make the shipped model, or fine-tune a Qwen-VL checkpoint on streams of one's
own.
"""

from __future__ import annotations

import click


@click.command(
    short_help="Make the shipped model, or fine-tune a Qwen-VL checkpoint.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Make the shipped model, or fine-tune CHECKPOINT on DATA; the arguments are the trainer's own
    (see `stream-vlm train --help`).
    """
    # The trainer declares its own options; importing it costs seconds, so they are asked for only
    # here.
    from stream_vlm_lab.training.train import command

    return command(arguments)
