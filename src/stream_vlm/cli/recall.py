"""`stream-vlm recall`: search a memory file, also while a node writes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from stream_vlm.cli.options.memory_file import memory_settings, which_key, which_memory
from stream_vlm.cli.options.picture_query import load_picture_model, read_picture
from stream_vlm.cli.options.place import which_place, with_maps
from stream_vlm.cli.options.times import parse_time, show_span
from stream_vlm.memory.answers.question_kind import AUTO, MODES, Question
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import (
    DEFAULT_KINDS,
    ORDERS,
    Place,
    RecallQuery,
    RecallRecord,
    RecallResult,
)
from stream_vlm.memory.search.query_time import with_time
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.step_rows import KINDS
from stream_vlm.types import NANOSECONDS


@click.command(short_help="Ask the memory what was seen.")
@click.argument("words", nargs=-1)
@which_memory
@which_key
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="Only what ended at or after this: '14:05', '10 min ago', '2026-01-31 14:05', 12.5.",
)
@click.option("--to", "end", metavar="TIME", help="Only what began at or before this.")
@which_place
@click.option("--camera", "cameras", multiple=True, help="Only this camera; may be repeated.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help=f"May be repeated; {', '.join(DEFAULT_KINDS)} when left out.",
)
@click.option(
    "--object",
    "object_id",
    type=int,
    default=0,
    help="Only events of the object with this number (column 'object', or object_id in --json).",
)
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="How to sort the records.",
)
@click.option(
    "--answer",
    "mode",
    type=click.Choice((AUTO, *MODES)),
    help="Compute an answer instead of listing records; auto chooses the kind from WORDS.",
)
@click.option(
    "--text-model",
    type=click.Path(path_type=Path),
    help="Directory of the text model that embedded the memory, for --order fused.",
)
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    help="Sort by similarity to this picture (JPEG or PNG).",
)
@click.option(
    "--like-record",
    type=int,
    metavar="N",
    help="Sort by similarity to the picture of record N.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Directory of the model that wrote the memory, for --like; default: the shipped model.",
)
@click.option(
    "--limit", type=int, default=20, show_default=True, help="At most this many records, 1 to 1000."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line instead of a table."
)
def recall(
    words: tuple[str, ...],
    path: Path,
    key: Key | None,
    start: str | None,
    end: str | None,
    place: Place | None,
    session_id: str,
    map_frames: tuple[str, ...],
    cameras: tuple[str, ...],
    kinds: tuple[str, ...],
    object_id: int,
    order: str,
    mode: str | None,
    text_model: Path | None,
    like: Path | None,
    like_record: int | None,
    model: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Search the memory.

    A record matches if it has any of the WORDS and passes every given filter.

    \b
    stream-vlm recall red ball --order newest        when did you last see the red ball
    stream-vlm recall --from '10 min ago'            what happened in the last ten minutes
    stream-vlm recall --near 2 1.5 1 --order oldest  what was seen there, in order
    stream-vlm recall --answer auto how often did the door open yesterday after 3 pm
    stream-vlm recall --like mug.jpg --from 08:00    what looked like this picture
    stream-vlm recall --object 7 --order oldest      every event of one object
    """
    if sum(chosen is not None for chosen in (like, like_record, mode)) > 1:
        raise click.UsageError("--like, --like-record and --answer cannot be combined; choose one")
    now = datetime.now().astimezone()
    query = RecallQuery(
        text=" ".join(words),
        start_ns=None if start is None else parse_time(start, now),
        end_ns=None if end is None else parse_time(end, now, as_end=True),
        place=place,
        cameras=cameras,
        kinds=kinds,
        object_id=object_id,
        order=order,
        limit=limit,
        session_id=session_id,
    )
    with Memory.open(with_maps(memory_settings(path, key), map_frames), read_only=True) as memory:
        if text_model is not None:
            from stream_vlm.text_models.sentence_embedder import SentenceEmbedder

            memory.use_embedder(SentenceEmbedder(text_model))
        if mode is not None:
            answer = memory.answer(Question(with_time(query, now), mode))
            click.echo(json.dumps(asdict(answer), ensure_ascii=False) if as_json else answer.text)
            if as_json:
                return
            result = RecallResult(answer.records, answer.total, answer.took_ms)
        elif like is not None:
            picture = read_picture(like)
            embedder = load_picture_model(model)
            result = memory.search_by_picture(embedder.embed(picture), query, embedder.model_id)
        elif like_record is not None:
            result = memory.search_by_record(like_record, query)
        else:
            result = memory.recall(query)
    if as_json:
        for record in result.records:
            click.echo(json.dumps(as_object(record), ensure_ascii=False))
        return
    for line in table(result):
        click.echo(line)


def as_object(record: RecallRecord) -> dict[str, object]:
    """Return a record's fields for JSON.

    `start` and `end` in seconds are added to the exact nanoseconds.
    """
    return {
        **asdict(record),
        "start": record.start_ns / NANOSECONDS,
        "end": record.end_ns / NANOSECONDS,
    }


def table(result: RecallResult) -> list[str]:
    """Return a heading, one line per record, and how many records there were."""
    if not result.records:
        return [f"no record matches ({result.took_ms:.1f} ms)"]
    rows = [("when", "kind", "camera", "sure", "what", "object", "where")]
    for record in result.records:
        place = (
            f"({record.pose.x:.2f}, {record.pose.y:.2f}) {record.pose.frame_id}".rstrip()
            if record.pose
            else ""
        )
        what = (record.text or record.state) + (
            f" ({record.missing_records} of its records are deleted)"
            if record.missing_records
            else ""
        )
        of = f"{record.object_id} ({record.object_confidence:.2f})" if record.object_id else ""
        rows.append(
            (
                show_span(record.start_ns, record.end_ns),
                record.kind,
                record.camera,
                f"{record.confidence:.2f}",
                what,
                of,
                place,
            )
        )
    used = [index for index in range(len(rows[0])) if any(row[index] for row in rows[1:])]
    widths = {index: max(len(row[index]) for row in rows) for index in used}
    lines = ["  ".join(row[index].ljust(widths[index]) for index in used).rstrip() for row in rows]
    shown, total = len(result.records), result.total
    if result.note:
        lines.append(f"({result.note})")
    return [*lines, f"{shown} of {total} records, {result.took_ms:.1f} ms"]
