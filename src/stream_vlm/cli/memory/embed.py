"""`stream-vlm memory embed`: compute vectors for all stored texts or pictures, with one model."""

from __future__ import annotations

from pathlib import Path

import click

from stream_vlm.cli.options.memory_file import memory_settings, which_key, which_memory
from stream_vlm.cli.options.picture_query import load_picture_model
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.storage.encryption import Key


@click.command(short_help="Compute vectors for all texts or pictures of a memory.")
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option(
    "--pictures",
    is_flag=True,
    help=(
        "Embed the stored pictures; DIRECTORY is then a vision model, default: the shipped model."
    ),
)
@which_memory
@which_key
def embed(directory: Path | None, pictures: bool, path: Path, key: Key | None) -> None:
    """Embed all texts that have no vector of the sentence-transformers model in DIRECTORY.

    Vectors of other models are deleted. Stop the node that writes the memory first.

    \b
    stream-vlm memory embed models/all-MiniLM-L6-v2 --memory memory.db
    stream-vlm recall --order fused --text-model models/all-MiniLM-L6-v2 somebody arrives
    stream-vlm memory embed --pictures --memory memory.db
    stream-vlm recall --like picture.jpg --memory memory.db
    """
    if pictures:
        model = load_picture_model(directory)
        with Memory.open(memory_settings(path, key)) as memory:
            number, refused = memory.reembed_pictures(model)
        click.echo(
            f"{number} pictures embedded"
            + (f", {refused} could not be embedded" if refused else "")
        )
        return
    if directory is None:
        raise click.UsageError("name the DIRECTORY of a sentence-transformers model, or --pictures")
    from stream_vlm.text_models.sentence_embedder import SentenceEmbedder

    with Memory.open(memory_settings(path, key)) as memory:
        memory.use_embedder(SentenceEmbedder(directory))
        number = memory.reembed()
    click.echo(f"{number} texts embedded")
