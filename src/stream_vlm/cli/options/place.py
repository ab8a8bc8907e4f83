"""The options `--near`, `--frame`, `--session` and `--map-frame`: where something was seen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.search.query import Place

which_maps = click.option(
    "--map-frame",
    "map_frames",
    multiple=True,
    metavar="FRAME",
    help=(
        "A frame in which sessions can be compared; may be repeated;"
        f" {', '.join(MemorySettings().map_frames)} when left out."
    ),
)
"""Adds `--map-frame`; the command gets the names of maps."""


def which_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--near`, `--frame`, `--session` and `--map-frame`.

    The command gets the place or None, the session or "", and the names of maps.
    """

    @functools.wraps(command)
    def with_place(near: tuple[float, float, float] | None, frame_id: str, **arguments: Any) -> Any:
        if frame_id and near is None:
            raise click.UsageError("--frame names the frame of --near, which is not given")
        place = None if near is None else Place(*near, frame_id)
        return command(place=place, **arguments)

    for option in reversed(
        (
            click.option(
                "--near",
                type=(float, float, float),
                metavar="X Y RADIUS",
                help="Only what was seen from within RADIUS metres of (X, Y).",
            ),
            click.option(
                "--frame",
                "frame_id",
                default="",
                metavar="FRAME",
                help="The frame of --near, such as map or odom; needed if there are several.",
            ),
            click.option(
                "--session",
                "session_id",
                default="",
                metavar="ID",
                help=(
                    "Only this session. When left out all of them; with --near in a frame that is"
                    " no map the newest one."
                ),
            ),
            which_maps,
        )
    ):
        with_place = option(with_place)
    return with_place


def with_maps(settings: MemorySettings, map_frames: Sequence[str]) -> MemorySettings:
    """Return `settings` with these names of maps; unchanged if there are none."""
    return settings.model_copy(update={"map_frames": list(map_frames)}) if map_frames else settings
