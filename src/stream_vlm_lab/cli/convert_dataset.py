"""`stream-vlm dataset convert`: checks published training files and converts them."""

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
    """Work with training files in published formats."""


@dataset.command(short_help="Check training files, or convert one format into another.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--from", "form", type=click.Choice(FORMS), required=True, help="Format of DATA.")
@click.option(
    "--to",
    "target",
    type=click.Choice(WRITTEN),
    help="Format to write; without it DATA is only checked.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the videos; their lengths are checked.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1.0),
    help="Assumed length of every video, for use without the videos.",
)
@click.option(
    "--system",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the system message (messages).",
)
@click.option("--prefix", default="", help="Folder to put before the videos' paths (messages).")
@click.option(
    "--own-time-only",
    is_flag=True,
    help="Write each question at its own time only, not also in the first turn (messages).",
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
    """Check DATA row by row, and write the usable rows to --out.

    Rows that cannot be used are printed with the reason. Exits with 1 if a row was refused.
    """
    # These imports bring OpenCV and take long; --help should not.
    from stream_vlm.context.turn_formats import STREAMO_SYSTEM
    from stream_vlm.unicode_text import replace_file
    from stream_vlm_lab.training.data.messages import as_stream_rows, read_messages
    from stream_vlm_lab.training.data.rows import read_text
    from stream_vlm_lab.training.data.sample import ReadResult, VideoFolder
    from stream_vlm_lab.training.data.streamo import read_raw, sample_to_raw
    from stream_vlm_lab.training.data.text_stream import read_text_stream

    if (target is None) != (out is None):
        raise click.UsageError("--to and --out must be given together")
    instruction = read_text(system) if system is not None else STREAMO_SYSTEM
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
        if target == "messages":
            rows = as_stream_rows(
                reading.samples, instruction, compatible=not own_time_only, prefix=prefix
            )
        else:
            rows = [sample_to_raw(sample) for sample in reading.samples]
        try:
            # Only now, and at once: a file that was there stays until all rows can be written.
            replace_file(out, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ConversionError(
                f"{out}: cannot be written ({error.strerror}); give another file with --out"
            ) from error
        click.echo(f"{out}: {len(rows)} rows as {target}")
    return 1 if reading.refusals else 0
