"""`stream-vlm simulate`: write a simulated stream as a video with its exact labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

ALL = "all"
LOOKS = {
    "seen": "seen",
    "varied": "varied objects",
    "invented": "invented",
    "objects": "unseen objects",
    "backgrounds": "unseen backgrounds",
}
"""Appearances by the names that `--look` takes."""


def _names(
    context: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> tuple[str, ...]:
    """Split names at commas; the option can also be given several times."""
    return tuple(name for part in given for name in part.replace(",", " ").split())


@click.command(short_help="Write a simulated stream as a video with exact labels.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    required=True,
    help="The same seed, length and options give the same stream.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Length of the stream.",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the video and labels.json.",
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True, max=60),
    default=10.0,
    show_default=True,
    help="Pictures a second.",
)
@click.option(
    "--size",
    type=(int, int),
    default=(320, 240),
    show_default=True,
    help="Width and height in pixels.",
)
@click.option(
    "--events-per-minute",
    type=click.FloatRange(0, 20),
    default=10.0,
    show_default=True,
    help="Mean rate of events.",
)
@click.option(
    "--quiet-minutes",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Mean length of spans without events, in minutes; 0 for none.",
)
@click.option(
    "--longest-event",
    "longest_event_s",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Longest duration of some slow events in seconds; 0 for none.",
)
@click.option(
    "--look",
    type=click.Choice(list(LOOKS)),
    default="seen",
    help="Forms and patterns; no training uses `objects` and `backgrounds`.",
)
@click.option(
    "--faults",
    multiple=True,
    callback=_names,
    metavar="KINDS",
    help=(
        "Camera faults, separated by commas: rolling, motion-blur, defocus, noise, jpeg, dropped,"
        " frozen; or all."
    ),
)
@click.option(
    "--faults-per-minute",
    type=click.FloatRange(0, 6, min_open=True),
    default=1.0,
    show_default=True,
    help="Mean rate of faults of each kind.",
)
@click.option(
    "--tasks",
    multiple=True,
    callback=_names,
    metavar="KINDS",
    help=(
        "Also write tasks in Streamo's raw and stream format: narration, event-caption,"
        " action-caption, grounding-forward, grounding-backward, time-sensitive, tell-me-when,"
        " long-memory, question; or all."
    ),
)
@click.option(
    "--tasks-each",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Most tasks of each kind.",
)
def simulate(
    seed: int,
    minutes: float,
    folder: Path,
    fps: float,
    size: tuple[int, int],
    events_per_minute: float,
    quiet_minutes: float,
    longest_event_s: float,
    look: str,
    faults: tuple[str, ...],
    faults_per_minute: float,
    tasks: tuple[str, ...],
    tasks_each: int,
) -> None:
    """Write the video of a simulated camera, and labels.json with what really happened.

    The labels are states, events, captions, questions and faults.
    """
    from stream_vlm_lab.simulation.camera.faults import FAULTS
    from stream_vlm_lab.simulation.labels.export import write_stream
    from stream_vlm_lab.simulation.labels.tasks import KINDS
    from stream_vlm_lab.simulation.world import World

    world = World(
        seed,
        minutes * 60,
        size,
        events_per_minute=events_per_minute,
        look=LOOKS[look],
        quiet_minutes=quiet_minutes,
        longest_event_s=longest_event_s,
        faults=FAULTS if ALL in faults else faults,
        faults_per_minute=faults_per_minute,
    )
    files = write_stream(
        world, folder, fps=fps, tasks=KINDS if ALL in tasks else tasks, tasks_each=tasks_each
    )
    if files.tasks is not None:
        _write_stream_form(files.tasks, folder / "streamo-stream.json")
    click.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _write_stream_form(raw: Path, out: Path) -> None:
    """Write the tasks in `raw` as messages, by way of the reader for published files."""
    from stream_vlm.context.turn_formats import STREAMO_SYSTEM
    from stream_vlm.unicode_text import replace_file
    from stream_vlm_lab.training.data.messages import as_stream_rows
    from stream_vlm_lab.training.data.sample import VideoFolder
    from stream_vlm_lab.training.data.streamo import read_raw

    reading = read_raw(raw, VideoFolder(raw.parent))
    if reading.refusals:
        raise click.ClickException(f"{raw}: {reading.summary()}")
    rows = as_stream_rows(reading.samples, STREAMO_SYSTEM, compatible=True, prefix="")
    replace_file(out, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
