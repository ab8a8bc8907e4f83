"""`stream-vlm run SOURCE` and `stream-vlm replay BAG`: watch without ROS, faster than real time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from stream_vlm.cli.offline_run import Existing, Watched, prepare_folder, watch
from stream_vlm.cli.options.settings import settings_of_run
from stream_vlm.config.settings import Settings, with_cameras
from stream_vlm.model_protocol import Model
from stream_vlm.redact import hide_arguments, redact
from stream_vlm.sources import Source, SourceError, open_source
from stream_vlm.sources.open_source import POSSIBLE, is_bag
from stream_vlm.sources.source import Reconnect
from stream_vlm.types import StepResult

Command = Callable[..., Any]


def run_options(command: Command) -> Command:
    """Add the options that `run` and `replay` share."""
    for option in reversed(
        (
            click.option(
                "--out",
                "folder",
                type=click.Path(path_type=Path, file_okay=False),
                required=True,
                metavar="DIR",
                help="Folder for the results.",
            ),
            click.option("--seconds", type=float, help="Watch only this much of the stream."),
            click.option(
                "--model",
                "directory",
                default="",
                help="Directory of a checkpoint; default: the shipped model.",
            ),
            click.option(
                "--set",
                "assignments",
                multiple=True,
                metavar="NAME=VALUE",
                help="Any setting, for example stream.rate_hz=1.",
            ),
            click.option(
                "--watch",
                "watch_for",
                default="",
                metavar="WORDS",
                help="An event to wait for and report, in plain words.",
            ),
            click.option(
                "--instruct",
                "instructions",
                multiple=True,
                metavar="WORDS",
                help="What to report whenever it happens, in plain words; may be given several"
                " times. An instruct model follows a general list without it.",
            ),
            click.option(
                "--force", "existing", flag_value="replace", help="Replace the run in DIR."
            ),
            click.option(
                "--append",
                "existing",
                flag_value="append",
                help="Continue the memory in DIR, as a new session.",
            ),
            click.option("--quiet", is_flag=True, help="Print only the last line, the totals."),
        )
    ):
        command = option(command)
    return command


@click.command(short_help="Watch a video file, a webcam, a stream or a simulated camera.")
@click.argument("source", metavar="SOURCE")
@click.option(
    "--stream-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds in which a stream must open and each of its pictures must come.",
)
@click.option(
    "--reconnect-wait",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Longest time between two attempts to open a stream that broke off.",
)
@run_options
def run(
    source: str,
    stream_timeout: float,
    reconnect_wait: float,
    folder: Path,
    seconds: float | None,
    directory: str,
    assignments: tuple[str, ...],
    watch_for: str,
    instructions: tuple[str, ...],
    existing: Existing | None,
    quiet: bool,
) -> None:
    """Watch SOURCE: a video file, a webcam index, a stream or world:SEED.

    A webcam is given by its number, such as 0, a stream by its rtsp:// or http:// address.

    Writes utterances.jsonl, events.jsonl and states.jsonl (times in seconds of stream) and
    memory.db to DIR.
    """
    settings = _settings(assignments, directory, instructions)
    hide_arguments([source, *assignments])
    reconnect = Reconnect(stream_timeout, min(0.5, reconnect_wait), reconnect_wait)
    _watch(
        open_source(source, seconds=seconds, reconnect=reconnect),
        settings,
        folder,
        existing or "refuse",
        quiet,
        watch_for,
    )


@click.command(short_help="Watch a rosbag2 recording as if it were the robot.")
@click.argument("bag", metavar="BAG")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    help="Image topic to watch; default: every camera of the recording.",
)
@click.option(
    "--odom",
    "odom_topic",
    default="",
    help="nav_msgs/Odometry topic that gives each record its pose.",
)
@run_options
def replay(
    bag: str,
    topics: tuple[str, ...],
    odom_topic: str,
    folder: Path,
    seconds: float | None,
    directory: str,
    assignments: tuple[str, ...],
    watch_for: str,
    instructions: tuple[str, ...],
    existing: Existing | None,
    quiet: bool,
) -> None:
    """Watch BAG, a rosbag2 folder or its .mcap or .db3 file, without ROS.

    Header stamps and frame ids are kept. Replaying the bag again gives the same results.

    Writes utterances.jsonl, events.jsonl and states.jsonl (times in seconds of stream) and
    memory.db to DIR.
    """
    if not is_bag(bag):
        raise SourceError(
            f"{redact(bag)}: not a rosbag2 recording; 'stream-vlm run' watches {POSSIBLE}"
        )
    settings = _settings(assignments, directory, instructions, odom_topic)
    source = open_source(
        bag,
        seconds=seconds,
        topics=topics,
        odom_topic=settings.pose.odom_topic,
        pose_max_age_s=settings.pose.max_age_s,
    )
    _watch(source, settings, folder, existing or "refuse", quiet, watch_for)


def _settings(
    assignments: tuple[str, ...],
    directory: str,
    instructions: tuple[str, ...],
    odom_topic: str = "",
) -> Settings:
    given = {
        "model.directory": directory,
        "instructions": list(instructions),
        "pose.odom_topic": odom_topic,
    }
    return settings_of_run(assignments, {name: value for name, value in given.items() if value})


def _watch(
    source: Source,
    settings: Settings,
    folder: Path,
    existing: Existing,
    quiet: bool,
    watch_for: str,
) -> None:
    # First, so that a folder that is in use is reported before a model is loaded.
    prepare_folder(folder, existing if existing != "replace" else "append")
    settings = with_cameras(settings, source.cameras)
    model = _load_model(settings)
    several = len(source.cameras) > 1
    with _progress(source, quiet) as advance:
        warned: set[str] = set()

        def on_step(result: StepResult, seconds: float) -> None:
            said = (
                []
                if quiet
                else [
                    f"{seconds:8.1f} s  {f'{said.camera}: ' if several else ''}{said.text}"
                    for said in result.utterances
                ]
            )
            for camera, fault in result.faults.items():
                if camera not in warned:
                    warned.add(camera)
                    click.echo(f"warning: {camera}: {fault}", err=True)
            advance(seconds, said)

        watched = watch(source, settings, model, folder, existing, on_step, watch_for.strip())
    click.echo(summary(watched, folder))


def _load_model(settings: Settings) -> Model:
    # torch is imported late, so that wrong arguments are reported at once.
    from stream_vlm.backbone import load_model

    return load_model(settings)


@contextlib.contextmanager
def _progress(source: Source, quiet: bool) -> Iterator[Callable[[float, list[str]], None]]:
    """Show a progress bar in seconds of stream on a terminal; utterances are printed above it."""
    from tqdm import tqdm

    # A video file is read once to know its length, so it is asked only where the bar is shown.
    hidden = quiet or not sys.stderr.isatty()
    total = None if hidden else source.duration_s
    layout = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s of stream, {remaining} left"
    if total is None:
        layout = "{desc}: {n:.0f} s of stream in {elapsed}"
    with tqdm(
        total=total,
        desc=source.name,
        unit="s",
        bar_format=layout,
        leave=False,
        disable=hidden,
    ) as bar:

        def advance(seconds: float, lines: list[str]) -> None:
            for line in lines:
                tqdm.write(line)
            bar.update(max(0.0, min(seconds, total or seconds) - bar.n))

        yield advance


def summary(watched: Watched, folder: Path) -> str:
    """Return the totals of a run in one line, with what was left out and why."""
    speed = watched.seconds / watched.elapsed_s if watched.elapsed_s > 0 else 0.0
    parts = [
        (
            f"{folder}: {watched.ticks} ticks over {watched.seconds:.1f} s of stream in"
            f" {watched.elapsed_s:.1f} s ({speed:.1f} x real time)"
        ),
        f"{watched.utterances} utterances",
        f"{watched.events} events",
    ]
    if watched.stale:
        parts.append(f"{watched.stale} frames out of order were skipped")
    parts += [
        f"{camera}: {count} frames could not be used"
        for camera, count in sorted(watched.faults.items())
    ]
    parts += [
        f"{name}: {count} left out ({reason})"
        for name, reasons in sorted(watched.left_out.items())
        for reason, count in sorted(reasons.items())
    ]
    return ", ".join(parts)
