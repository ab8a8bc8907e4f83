"""`stream-vlm train`: train a small checkpoint on the simulated camera."""

from __future__ import annotations

import argparse

import click


@click.command(
    short_help="Train a small checkpoint on the simulated camera.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Train a small checkpoint on the simulated camera; the arguments are the trainer's own (see `stream-vlm train --help`)."""
    # The trainer declares its own options; importing it costs seconds, so they are asked for only here.
    from stream_vlm.training.train import add_arguments, main

    parser = argparse.ArgumentParser(prog="stream-vlm train", description=main.__doc__)
    add_arguments(parser)
    return main(parser.parse_args(list(arguments)))
