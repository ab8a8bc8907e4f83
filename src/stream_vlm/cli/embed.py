"""`stream-vlm embed`: give every text of a memory a vector of one model, so that it is found by meaning."""

from __future__ import annotations

from pathlib import Path

import click

from stream_vlm.config import MemorySettings
from stream_vlm.memory.store import Memory


@click.command(short_help="Give every text of a memory a vector of a model.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--memory",
    "path",
    type=click.Path(path_type=Path),
    default=Path(MemorySettings().path),
    show_default=True,
    help="Memory file; stop the node that writes it.",
)
def embed(directory: Path, path: Path) -> None:
    """Embed with the sentence-transformers model in DIRECTORY all that has no vector of it; vectors of other models are dropped.

    \b
    stream-vlm embed models/all-MiniLM-L6-v2 --memory memory.db
    stream-vlm recall --order fused --text-model models/all-MiniLM-L6-v2 somebody arrives
    """
    from stream_vlm.embedding import SentenceEmbedder

    with Memory.open(MemorySettings(path=str(path))) as memory:
        memory.use_embedder(SentenceEmbedder(directory))
        number = memory.embed_again()
    click.echo(f"{number} texts embedded")
