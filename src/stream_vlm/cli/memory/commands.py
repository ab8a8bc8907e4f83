"""`stream-vlm memory`: statistics, checks, copies, export, import, deletion, and a page per day."""

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
from stream_vlm.cli.options.place import which_maps, which_place, with_maps
from stream_vlm.cli.options.times import parse_time, show_span
from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.maintenance.check_and_backup import Stats, backup, stats, verify
from stream_vlm.memory.maintenance.export_import import export_lines
from stream_vlm.memory.maintenance.forget import Forget
from stream_vlm.memory.maintenance.known_copies import (
    BAG,
    EXPORT,
    REPORT,
    copies_beside,
    note_copy,
)
from stream_vlm.memory.maintenance.reencrypt import convert
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.rescue.rescue import is_ours, rescue
from stream_vlm.memory.search.query import Place
from stream_vlm.memory.storage.connections import transaction
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import MemoryFileError, RecallError, translate_errors
from stream_vlm.memory.storage.file import acquire_writer, check_for_reading, open_for_reading

BUSY_S = MemorySettings().busy_timeout_s
"""How long a command waits for another program's lock, seconds."""


def _existing(path: Path, key: Key | None) -> MemorySettings:
    """Return the settings of an existing memory; a command that changes a memory creates none."""
    if not path.exists():
        raise MemoryFileError(f"{path}: no such memory file; name one with --memory")
    return memory_settings(path, key)


@click.group(short_help="Inspect, check, copy, convert or clean a memory file.")
def memory() -> None:
    """Inspect, check, copy, convert or clean a memory file.

    Commands that only read work while the node writes the file. Before a command that changes the
    file, stop the node; to delete while it runs, use its service ~/forget.
    """


memory.add_command(embed)


@memory.command("stats")
@which_memory
@which_key
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_stats(path: Path, key: Key | None, as_json: bool) -> None:
    """Print how many records of each kind there are, their time span, and the file size."""
    found = stats(path, BUSY_S, key)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str))
        return
    for line in stats_lines(path, found):
        click.echo(line)


def stats_lines(path: Path, found: Stats) -> list[str]:
    """Return the statistics as lines of text."""
    span = (
        show_span(found.oldest_ns, found.newest_ns)
        if found.oldest_ns is not None and found.newest_ns is not None
        else "nothing yet"
    )
    lines = [
        (
            f"{path}: {found.file_bytes / 1e6:.1f} MB, of which {found.free_bytes / 1e6:.1f} MB"
            f" can be reused; schema version {found.version}"
        ),
        f"  {span}, {found.sessions} sessions",
        f"  {sum(found.records.values())} records: "
        + (", ".join(f"{number} {kind}" for kind, number in found.records.items()) or "none"),
        f"  {found.pictures} pictures, {found.picture_bytes / 1e6:.1f} MB",
        "  summaries: "
        + (", ".join(f"{number} {tier}" for tier, number in found.summaries.items()) or "none")
        + (
            f"; {found.missing_records} of the records that they were made from are deleted"
            if found.missing_records
            else ""
        ),
    ]
    lines += [
        f"  dropped by retention since the file was made: {number} {what}, {size / 1e6:.1f} MB"
        for what, (number, size) in found.dropped.items()
    ]
    lines += [f"  {camera}: {number} records" for camera, number in found.cameras.items()]
    return lines + [f"  a copy: {copy}" for copy in found.copies]


@memory.command("verify")
@which_memory
@which_key
@click.option(
    "--rescue",
    "mend",
    is_flag=True,
    help="Rename a damaged file and copy its readable rows into a new file.",
)
def check(path: Path, key: Key | None, mend: bool) -> int:
    """Read every page, row, link and picture; exit with 1 when something is wrong."""
    if not path.exists():
        raise MemoryFileError(f"{path}: no such memory file; name one with --memory")
    wrong = verify(path, BUSY_S, key)
    for finding in wrong:
        click.echo(finding)
    if not wrong:
        click.echo(f"{path}: sound")
        return 0
    if mend:
        if not is_ours(path, key):
            raise MemoryFileError(f"{path}: is not marked as a memory file; it was not changed")
        lock = acquire_writer(path, BUSY_S)
        try:
            done = rescue(path, wrong[0], key)
        finally:
            lock.release()
        click.echo(
            f"the damaged file is now {done.aside}; {done.records} records and {done.pictures}"
            " pictures were rescued"
        )
    return 1


@memory.command("backup")
@click.argument("copy", type=click.Path(path_type=Path, dir_okay=False))
@which_memory
@which_key
def copy_it(copy: Path, path: Path, key: Key | None) -> None:
    """Copy the current memory to the new file COPY, also while a node writes it."""
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
    """Write the whole memory to OUT.

    OUT is a file of JSON lines, which can be imported again, or a folder with a ROS 2 bag (MCAP)
    for viewers.
    """
    if kind == "mcap":
        # Imported here: the other commands do not need the bag libraries.
        from stream_vlm.cli.memory.export_bag import export_bag

        click.echo(f"{out}: {export_bag(path, out, BUSY_S, key)} messages")
        note_copy(path, out, BAG, BUSY_S, key)
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
    note_copy(path, out, EXPORT, BUSY_S, key)
    click.echo(f"{out}: {lines - 2} rows")


@memory.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@which_memory
@which_key
def import_it(source: Path, path: Path, key: Key | None) -> int:
    """Add an export (JSON lines) to the memory; a missing memory file is created.

    Rows that are there already are not added again. A row that is damaged is refused with its
    reason, and the others are imported; the exit status is then 1.
    """
    with Memory.open(memory_settings(path, key)) as opened:
        imported = opened.import_from(source, lambda said: click.echo(said, err=True))
    added = [f"{number} of {table}" for table, number in imported.added.items() if number]
    said = ", ".join(added) or "nothing new"
    if imported.already_there:
        said += f"; {imported.already_there} records were there already"
    if imported.refused:
        said += f"; {imported.refused} refused"
    click.echo(f"{path}: {said}")
    return 1 if imported.refused else 0


@memory.command("link")
@which_maps
@which_memory
@which_key
def link(map_frames: tuple[str, ...], path: Path, key: Key | None) -> None:
    """Compute again which events belong to the same object.

    Use it for a memory of an older version, or after `memory.map_frames` has changed.
    """
    with Memory.open(with_maps(_existing(path, key), map_frames)) as opened:
        click.echo(f"{path}: {opened.relink()} events are linked to an object")


@memory.command("encrypt")
@which_memory
@which_key
def encrypt(path: Path, key: Key | None) -> None:
    """Encrypt a plain memory with the key in --key-file.

    Set memory.key_file of the node to the same file. The plain file is replaced after its contents
    have been verified in the encrypted one.
    """
    _convert(path, None, _needed(key), "encrypted")


@memory.command("decrypt")
@which_memory
@which_key
def decrypt(path: Path, key: Key | None) -> None:
    """Decrypt a memory that is encrypted with the key in --key-file.

    The encrypted file is replaced after its contents have been verified in the plain one.
    """
    _convert(path, _needed(key), None, "plain")


def _needed(key: Key | None) -> Key:
    if key is None:
        raise click.UsageError("give the file with the passphrase as --key-file FILE")
    return key


def _convert(path: Path, before: Key | None, after: Key | None, what: str) -> None:
    _existing(path, before)
    click.echo(f"{path}: is now {what}, {convert(path, before, after, BUSY_S)} rows")
    for copy in copies_beside(path):
        click.echo(f"  this older copy was not converted: {copy}")


@memory.command("forget")
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="Records that end at or after this: '14:05', '10 min ago', '2026-01-31 14:05'.",
)
@click.option("--to", "end", metavar="TIME", help="Records that start at or before this.")
@which_place
@click.option("--camera", "cameras", multiple=True, help="Records of this camera; may be repeated.")
@click.option("--everything", is_flag=True, help="All records.")
@click.option("--backups", is_flag=True, help="Delete in the known backups as well.")
@click.option("--dry-run", is_flag=True, help="Only count, delete nothing.")
@which_memory
@which_key
def forget(
    start: str | None,
    end: str | None,
    place: Place | None,
    session_id: str,
    map_frames: tuple[str, ...],
    cameras: tuple[str, ...],
    everything: bool,
    backups: bool,
    dry_run: bool,
    path: Path,
    key: Key | None,
) -> None:
    """Delete all records that match every given filter, with their pictures.

    The file shrinks by the space they took. A time that the clock shows twice, when daylight
    saving ends, is refused: write it with its offset, '2026-10-25 02:30+01:00'.
    Copies that still have the records are named: backups, exports, reports, and files that were
    set aside.
    """
    now = datetime.now().astimezone()
    if everything and (start or end or place or cameras or session_id):
        raise click.UsageError("--everything cannot be combined with other filters")
    what = (
        Forget.everything()
        if everything
        else Forget(
            None if start is None else parse_time(start, now, refuse_ambiguous=True),
            None if end is None else parse_time(end, now, as_end=True, refuse_ambiguous=True),
            place,
            cameras,
            session_id,
        )
    )
    _forget(path, key, what, dry_run, map_frames, backups=backups)


@memory.command("prune")
@click.option(
    "--before",
    required=True,
    metavar="TIME",
    help="Delete records that start at or before this: '2 d ago', 'yesterday 9:00'.",
)
@click.option("--dry-run", is_flag=True, help="Only count, delete nothing.")
@which_memory
@which_key
def prune(before: str, dry_run: bool, path: Path, key: Key | None) -> None:
    """Delete records older than a given time, with their pictures, and shrink the file."""
    until_ns = parse_time(before, datetime.now().astimezone(), refuse_ambiguous=True)
    _forget(path, key, Forget(end_ns=until_ns), dry_run)


def _forget(
    path: Path,
    key: Key | None,
    what: Forget,
    dry_run: bool,
    map_frames: tuple[str, ...] = (),
    *,
    backups: bool = False,
) -> None:
    settings = with_maps(_existing(path, key), map_frames)
    with Memory.open(settings, read_only=dry_run) as opened:
        forgotten = opened.forget(what, dry_run=dry_run)
    click.echo(f"{'would forget' if dry_run else 'forgot'} {forgotten}")
    if not dry_run:
        click.echo(f"the file is {forgotten.freed_bytes / 1e6:.1f} MB smaller")
    for copy in forgotten.copies if backups else ():
        try:
            # One that cannot be read is never set aside and replaced here, as a memory would be.
            check_for_reading(copy, BUSY_S, key)
            settings = with_maps(memory_settings(copy, key), map_frames)
            with Memory.open(settings, read_only=dry_run) as opened:
                found = opened.forget(what, dry_run=dry_run)
        except (MemoryFileError, RecallError) as error:
            click.echo(f"  not deleted there: {error}")
            continue
        click.echo(
            f"  {copy}: {'would forget' if dry_run else 'forgot'} {found.records} records and"
            f" {found.pictures} pictures"
        )


@memory.command("report")
@click.argument(
    "out", type=click.Path(path_type=Path, dir_okay=False), default=Path("memory-report.html")
)
@click.option("--day", metavar="DATE", help="Such as 2026-01-31; default: the newest day.")
@which_memory
@which_key
def report(out: Path, day: str | None, path: Path, key: Key | None) -> None:
    """Write one day as an HTML page with a timeline and pictures.

    The page needs no other file and no network.
    """
    from stream_vlm.cli.memory.html_report import page, read_day

    found = read_day(path, day, BUSY_S, key)
    # Mode 0600 as for the memory file, because the page shows the same data.
    with (
        translate_errors(out),
        os.fdopen(
            os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file,
    ):
        # A page that is written again may have had another mode.
        os.fchmod(file.fileno(), 0o600)
        file.write(page(found))
    note_copy(path, out, REPORT, BUSY_S, key)
    click.echo(f"{out}: {found.title}, {len(found.entries)} entries")
