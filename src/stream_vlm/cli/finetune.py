"""`stream-vlm finetune`: fine-tune a Qwen-VL checkpoint on streams of one's own."""

from __future__ import annotations

import click


@click.command(
    short_help="Fine-tune a Qwen-VL checkpoint on streams of one's own.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def finetune(arguments: tuple[str, ...]) -> int:
    """Fine-tune a Qwen-VL checkpoint; the arguments are the trainer's own (see `stream-vlm finetune --help`)."""
    # The trainer declares its own options; importing it costs seconds, so they are asked for only here.
    from stream_vlm.training.finetune import command

    return command(arguments)
