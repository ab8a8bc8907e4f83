"""`stream-vlm dataset convert`: published training files read, checked, written in another form."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stream_vlm.types import StreamError

FORMS = ("streamo-raw", "messages", "text-stream")
WRITTEN = ("streamo-raw", "messages")


class ConversionError(StreamError):
    """A conversion cannot be done; the message names what is missing and the remedy."""


@click.group(short_help="Check and convert training files.")
def dataset() -> None:
    """Work with training files in published forms."""


@dataset.command(short_help="Check training files, or convert one form into another.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--from", "form", type=click.Choice(FORMS), required=True, help="Form of DATA.")
@click.option(
    "--to",
    "target",
    type=click.Choice(WRITTEN),
    help="Form to write; without it DATA is only checked.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the videos; their lengths are looked at.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1.0),
    help="Take every video for this long, where the videos are not at hand.",
)
@click.option(
    "--system",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the instruction to write first (messages).",
)
@click.option("--prefix", default="", help="Put before the videos' paths (messages).")
@click.option(
    "--own-time-only",
    is_flag=True,
    help="Write each question at its own time only, not before the first turn too (messages).",
)
def convert(
    data: Path,
    form: str,
    target: str | None,
    out: Path | None,
    videos: Path | None,
    seconds: float | None,
    system: Path | None,
    prefix: str,
    own_time_only: bool,
) -> int:
    """Read DATA row by row, say which rows cannot be used and why, and write the others to --out.

    Exits with 1 when a row was refused.
    """
    # Only --help is to be quick; OpenCV comes with the videos.
    from stream_vlm.context.turn_formats import STREAMO_SYSTEM
    from stream_vlm_lab.training.data.messages import as_stream_rows, read_messages
    from stream_vlm_lab.training.data.sample import ReadResult, VideoFolder
    from stream_vlm_lab.training.data.streamo import read_raw, sample_to_raw
    from stream_vlm_lab.training.data.text_stream import read_text_stream

    if (target is None) != (out is None):
        raise click.UsageError("--to and --out go together")
    known = (
        VideoFolder(videos or Path(), seconds)
        if videos is not None or seconds is not None
        else None
    )
    reading: ReadResult
    if form == "streamo-raw":
        if known is None:
            raise ConversionError(
                f"{data}: raw annotations do not say how long a video is; give --videos FOLDER or"
                " --seconds N"
            )
        reading = read_raw(data, known)
    else:
        reading = (read_messages if form == "messages" else read_text_stream)(data, known)
    click.echo(f"{data}: {reading.summary()}")
    if target is not None and out is not None:
        instruction = system.read_text(encoding="utf-8") if system is not None else STREAMO_SYSTEM
        if target == "messages":
            rows = as_stream_rows(
                reading.samples, instruction, compatible=not own_time_only, prefix=prefix
            )
        else:
            rows = [sample_to_raw(sample) for sample in reading.samples]
        try:
            out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConversionError(
                f"{out}: cannot be written ({error.strerror}); give another file with --out"
            ) from error
        click.echo(f"{out}: {len(rows)} rows as {target}")
    return 1 if reading.refusals else 0
