"""What the node published as stored, and whether it is in the file after a kill."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream_vlm_ros.common.stamps import nanoseconds

STATES = ("silence", "standby", "response")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Loss:
    """Result of a check.

    Attributes:
        expected: records that must be there.
        lost: those that are not there, or have other content; described.
        sound: whether SQLite finds the file sound.
        sessions: number of sessions in the file.
        records: number of records in the file.
    """

    expected: int
    lost: list[str]
    sound: bool
    sessions: int
    records: int


@dataclass
class Ledger:
    """Collects the node's messages; the methods that begin with `on_` are subscriptions' callbacks.

    Attributes:
        steps: the steps of this hour: session, number.
        step_ms: their durations, from the messages.
        processed: stamp of the newest processed picture of each camera in this session of clock.
        counts: published messages by kind.
    """

    steps: set[tuple[str, int]] = field(default_factory=set)
    step_ms: list[float] = field(default_factory=list)
    processed: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    newest_ns: int = 0
    _published: dict[Key, Key] = field(default_factory=dict)
    _read: dict[int, Key] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on_state(self, message: Any) -> None:
        """A decision: an observation is stored."""
        stamp_ns = nanoseconds(message.header.stamp)
        with self._lock:
            if (message.session_id, message.step) not in self.steps:
                self.steps.add((message.session_id, message.step))
                self.step_ms.append(message.step_ms)
            self.counts["states"] += 1
            # A state from before the clock jumped back is newer than the clock.
            if stamp_ns <= self.newest_ns:
                self.processed[message.camera] = stamp_ns
            key = ("observation", message.session_id, message.camera, stamp_ns)
            self._published[key] = (STATES[message.state],)

    def on_event(self, message: Any) -> None:
        """An event is stored."""
        span = nanoseconds(message.start), nanoseconds(message.end)
        with self._lock:
            self.counts["events"] += 1
            self._published["event", message.event_id] = (
                message.session_id,
                message.camera,
                *span,
                message.label,
            )

    def on_utterance(self, message: Any) -> None:
        """An utterance is stored; answers of the memory are published only."""
        with self._lock:
            self.counts["utterances"] += 1
            if not message.query_id:
                stamp_ns = nanoseconds(message.header.stamp)
                key = ("utterance", message.session_id, message.camera, stamp_ns, message.text)
                self._published[key] = (message.event_id,)

    def note_answer(self, query_id: str, text: str) -> None:
        """A caller got an answer of the model, so question and answer are stored."""
        with self._lock:
            self._published["answer", query_id] = (text,)

    def note_read(self, records: list[Any]) -> None:
        """A reader saw these records."""
        with self._lock:
            for record in records:
                if record.kind == "summary":  # summaries are merged, and then replaced
                    continue
                self._read[record.record_id] = (
                    record.kind,
                    record.session_id,
                    record.camera,
                    nanoseconds(record.start),
                    nanoseconds(record.end),
                    record.text,
                )

    def begin_clock(self, now_ns: int) -> None:
        """The clock was set to `now_ns` (ns), perhaps back."""
        with self._lock:
            self.newest_ns = now_ns
            self.processed.clear()

    def take_hour(self) -> tuple[int, list[float]]:
        """The number of steps since the last call, and their durations in milliseconds."""
        with self._lock:
            taken = len(self.steps), self.step_ms
            self.steps, self.step_ms = set(), []
            return taken

    def check(self, path: Path, copy: Path) -> Loss:
        """Look for everything in a copy of the file at `path` and its log.

        Call it after the kill, when no message can come any more. The copy is recovered; the
        original is left to the next node.
        """
        for ending in ("", "-wal"):
            target, source = Path(f"{copy}{ending}"), Path(f"{path}{ending}")
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, target)
        Path(f"{copy}-shm").unlink(missing_ok=True)
        with closing(sqlite3.connect(copy)) as db:
            sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            sessions = int(db.execute("SELECT count(*) FROM session").fetchone()[0])
            rows = db.execute(
                "SELECT id, kind, session_id, camera, start_ns, end_ns, text, state, event_id,"
                " query_id FROM record"
            ).fetchall()
        stored: dict[Key, list[Key]] = {}
        by_id: dict[int, Key] = {}
        for row in rows:
            key, content = _key_and_content(row)
            stored.setdefault(key, []).append(content)
            by_id[row[0]] = tuple(row[1:7])
        with self._lock:
            lost = [
                f"{key}: {'other content' if key in stored else 'missing'}: {content}"
                for key, content in self._published.items()
                if content not in stored.get(key, ())
            ]
            lost += [
                f"record {number}: was {content}, is {by_id.get(number)}"
                for number, content in self._read.items()
                if by_id.get(number) != content
            ]
            expected = len(self._published) + len(self._read)
        return Loss(expected, lost, sound, sessions, len(rows))


def _key_and_content(row: tuple[Any, ...]) -> tuple[Key, Key]:
    _, kind, session, camera, start_ns, end_ns, text, state, event_id, query_id = row
    if kind == "observation":
        return (kind, session, camera, start_ns), (state,)
    if kind == "event":
        return (kind, event_id), (session, camera, start_ns, end_ns, text)
    if kind == "utterance":
        return (kind, session, camera, start_ns, text), (event_id,)
    if kind == "answer":
        return (kind, query_id), (text,)
    return (kind, row[0]), (text,)
