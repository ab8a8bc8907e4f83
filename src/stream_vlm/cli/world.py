"""`stream-vlm world`: write a simulated stream as a video with its exact labels."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write a simulated stream as a video with exact labels.")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="The same seed and length give the same stream.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Length of the stream.")
@click.option("--out", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for video and labels.json.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True, max=60), default=10.0, show_default=True, help="Pictures a second.")
@click.option("--size", type=(int, int), default=(320, 240), show_default=True, help="Width and height in pixels.")
def world(seed: int, minutes: float, folder: Path, fps: float, size: tuple[int, int]) -> None:
    """Write what a simulated camera sees as a video, and what really happened as labels.json: states, events, captions, questions."""
    from stream_vlm.world.export import write_stream

    write_stream(seed, minutes, folder, fps=fps, size=size)
    click.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
