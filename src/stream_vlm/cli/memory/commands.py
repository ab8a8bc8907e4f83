"""`stream-vlm memory`: look after a memory file: figures, checks, copies, export and import,
forgetting, a page a day.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from stream_vlm.cli.memory.embed import embed
from stream_vlm.cli.options.memory_file import memory_settings, which_key, which_memory
from stream_vlm.cli.options.times import parse_time, show_span
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.check_and_backup import Stats, backup, stats, verify
from stream_vlm.memory.maintenance.export_import import export_lines
from stream_vlm.memory.maintenance.forget import Forget, copies_beside
from stream_vlm.memory.maintenance.reencrypt import convert
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.rescue.rescue import is_ours, rescue
from stream_vlm.memory.search.query import Place
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryFileError, translate_errors
from stream_vlm.memory.storage.file import acquire_writer, check_for_reading, open_for_reading
from stream_vlm.memory.storage.schema import transaction

BUSY_S = MemorySettings().busy_timeout_s


def _existing(path: Path, key: Key | None) -> MemorySettings:
    """Settings of a memory that must be there: a command that changes one does not make one."""
    if not path.exists():
        raise MemoryFileError(f"{path}: there is no memory file; give one with --memory")
    return memory_settings(path, key)


@click.group(short_help="Look after a memory file.")
def memory() -> None:
    """Look after a memory file.

    What only reads works while the node writes; what changes the file needs the node stopped, or
    asks it (~/forget).
    """


memory.add_command(embed)


@memory.command("stats")
@which_memory
@which_key
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_stats(path: Path, key: Key | None, as_json: bool) -> None:
    """How much is remembered, of which kind, since when, and how large it is."""
    found = stats(path, BUSY_S, key)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
        return
    for line in stats_lines(path, found):
        click.echo(line)


def stats_lines(path: Path, found: Stats) -> list[str]:
    """The figures in words."""
    span = (
        show_span(found.oldest_ns, found.newest_ns)
        if found.oldest_ns is not None and found.newest_ns is not None
        else "nothing yet"
    )
    lines = [
        (
            f"{path}: {found.file_bytes / 1e6:.1f} MB, of which {found.free_bytes / 1e6:.1f} MB"
            f" free to be used again; version {found.version}"
        ),
        f"  {span}, {found.sessions} sessions",
        f"  {sum(found.records.values())} records: "
        + (", ".join(f"{number} {kind}" for kind, number in found.records.items()) or "none"),
        f"  {found.pictures} pictures, {found.picture_bytes / 1e6:.1f} MB",
        "  summaries: "
        + (", ".join(f"{number} {tier}" for tier, number in found.summaries.items()) or "none")
        + (
            f"; {found.missing_records} of the records that they were made from are gone"
            if found.missing_records
            else ""
        ),
    ]
    lines += [
        f"  dropped since the file was made: {number} {what}, {size / 1e6:.1f} MB"
        for what, (number, size) in found.dropped.items()
    ]
    lines += [f"  {camera}: {number} records" for camera, number in found.cameras.items()]
    return lines + [f"  a copy beside it: {copy}" for copy in found.copies]


@memory.command("verify")
@which_memory
@which_key
@click.option(
    "--rescue",
    "mend",
    is_flag=True,
    help="Set a damaged file aside and put its readable rows into a fresh one.",
)
def check(path: Path, key: Key | None, mend: bool) -> int:
    """Read every page, row, link and picture; exit with 1 when something is wrong."""
    if not path.exists():
        raise MemoryFileError(f"{path}: there is no memory file; give one with --memory")
    wrong = verify(path, BUSY_S, key)
    for finding in wrong:
        click.echo(finding)
    if not wrong:
        click.echo(f"{path}: sound")
        return 0
    if mend:
        if not is_ours(path, key):
            raise MemoryFileError(f"{path}: does not say that it is a memory; it is left as it is")
        lock = acquire_writer(path, BUSY_S)
        try:
            done = rescue(path, wrong[0], key)
        finally:
            lock.release()
        click.echo(
            f"set aside as {done.aside}; {done.records} records and {done.pictures} pictures are"
            " rescued"
        )
    return 1


@memory.command("backup")
@click.argument("copy", type=click.Path(path_type=Path, dir_okay=False))
@which_memory
@which_key
def copy_it(copy: Path, path: Path, key: Key | None) -> None:
    """Copy the memory as it is now to the new file COPY, also while a node writes it."""
    click.echo(f"{copy}: {backup(path, copy, BUSY_S, key) / 1e6:.1f} MB")


@memory.command("export")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(("jsonl", "mcap")),
    default="jsonl",
    show_default=True,
    help="JSON lines, or a ROS 2 bag.",
)
@which_memory
@which_key
def export(out: Path, kind: str, path: Path, key: Key | None) -> None:
    """Write everything to OUT: JSON lines, which can be imported again, or a folder with a ROS 2
    bag in MCAP, which viewers play.
    """
    if kind == "mcap":
        # The libraries for bags are loaded by those who write one.
        from stream_vlm.cli.memory.export_bag import export_bag

        click.echo(f"{out}: {export_bag(path, out, BUSY_S, key)} messages")
        return
    check_for_reading(path, BUSY_S, key)
    with translate_errors(out):
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    lines = 0
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            closing(open_for_reading(path, BUSY_S, key)) as db,
            translate_errors(out),
            transaction(db, "DEFERRED"),
        ):
            for line in export_lines(db):
                file.write(line)
                lines += 1
    except BaseException:
        out.unlink()
        raise
    click.echo(f"{out}: {lines - 2} rows")


@memory.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@which_memory
@which_key
def import_it(source: Path, path: Path, key: Key | None) -> None:
    """Add an export (JSON lines) to the memory, which is made where it is missing.

    All of it comes in, or nothing.
    """
    with Memory.open(memory_settings(path, key)) as opened:
        added = opened.import_from(source)
    click.echo(
        f"{path}: " + ", ".join(f"{number} of {table}" for table, number in added.items() if number)
    )


@memory.command("link")
@which_memory
@which_key
def link(path: Path, key: Key | None) -> None:
    """Say anew which events happened to one and the same thing: for a memory of an older version,
    or after the rule has changed.
    """
    with Memory.open(_existing(path, key)) as opened:
        click.echo(f"{path}: {opened.relink()} events tell of a thing")


@memory.command("encrypt")
@which_memory
@which_key
def encrypt(path: Path, key: Key | None) -> None:
    """Put a plain memory under the key in --key-file, from then on memory.key_file of the node.

    The old file goes once the new one holds the same.
    """
    _convert(path, None, _needed(key), "encrypted")


@memory.command("decrypt")
@which_memory
@which_key
def decrypt(path: Path, key: Key | None) -> None:
    """Make a plain memory of one that is encrypted with the key in --key-file.

    The old file goes once the new one holds the same.
    """
    _convert(path, _needed(key), None, "plain")


def _needed(key: Key | None) -> Key:
    if key is None:
        raise click.UsageError("give the file with the passphrase as --key-file FILE")
    return key


def _convert(path: Path, before: Key | None, after: Key | None, what: str) -> None:
    _existing(path, before)
    click.echo(f"{path}: is {what} now, {convert(path, before, after, BUSY_S)} rows")
    for copy in copies_beside(path):
        click.echo(f"  not so this copy of earlier: {copy}")


@memory.command("forget")
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="What ended at or after this: '14:05', '10 min ago', '2026-01-31 14:05'.",
)
@click.option("--to", "end", metavar="TIME", help="What began at or before this.")
@click.option(
    "--near",
    type=(float, float, float),
    metavar="X Y RADIUS",
    help="What was seen from within RADIUS metres of (X, Y).",
)
@click.option("--camera", "cameras", multiple=True, help="What this camera saw; may be repeated.")
@click.option("--everything", is_flag=True, help="All there is.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@which_memory
@which_key
def forget(
    start: str | None,
    end: str | None,
    near: tuple[float, float, float] | None,
    cameras: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    path: Path,
    key: Key | None,
) -> None:
    """Delete what every given filter holds for, its pictures and its words, and give the space
    back.
    """
    now = datetime.now().astimezone()
    if everything and (start or end or near or cameras):
        raise click.UsageError("--everything stands alone")
    what = Forget.everything() if everything else Forget(
        None if start is None else parse_time(start, now), None if end is None else parse_time(end, now), Place(*near) if near else None, cameras
    )  # fmt: skip
    _forget(path, key, what, dry_run)


@memory.command("prune")
@click.option(
    "--before",
    required=True,
    metavar="TIME",
    help="Drop what began at or before this: '2 d ago', 'yesterday 9:00', '2026-01-31'.",
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@which_memory
@which_key
def prune(before: str, dry_run: bool, path: Path, key: Key | None) -> None:
    """Drop what is older than a time, and give the space back."""
    _forget(path, key, Forget(end_ns=parse_time(before, datetime.now().astimezone())), dry_run)


def _forget(path: Path, key: Key | None, what: Forget, dry_run: bool) -> None:
    with Memory.open(_existing(path, key), read_only=dry_run) as opened:
        forgotten = opened.forget(what, dry_run=dry_run)
    click.echo(f"{'would forget' if dry_run else 'forgot'} {forgotten}")
    if not dry_run:
        click.echo(f"the file is {forgotten.freed_bytes / 1e6:.1f} MB smaller")


@memory.command("report")
@click.argument(
    "out", type=click.Path(path_type=Path, dir_okay=False), default=Path("memory-report.html")
)
@click.option("--day", metavar="DATE", help="Such as 2026-01-31; the newest day when left out.")
@which_memory
@which_key
def report(out: Path, day: str | None, path: Path, key: Key | None) -> None:
    """Write one day as one HTML page with a timeline and pictures; it needs no other file and no
    network.
    """
    from stream_vlm.cli.memory.html_report import page, read_day

    found = read_day(path, day, BUSY_S, key)
    # Private as the memory is: it shows the same.
    with (
        translate_errors(out),
        os.fdopen(
            os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file,
    ):
        file.write(page(found))
    click.echo(f"{out}: {found.title}, {len(found.entries)} entries")
