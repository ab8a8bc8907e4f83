"""Watches on their way to the model and reports on their way back."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stream_vlm.types import Query, RecalledContext, Utterance
from stream_vlm_ros.requests.question_queue import NOTHING, checked_words


@dataclass(frozen=True)
class WatchCallbacks:
    """Who waits for reports.

    Called from the threads of the model, of the memory and of other watchers: return at once.

    Attributes:
        on_report: an utterance under the watch, stored already.
        on_end: one sentence that says why the watch ended, when it was not its own watcher who
            ended it.
    """

    on_report: Callable[[Utterance], None]
    on_end: Callable[[str], None]


class Watches:
    """The watches that are active or wait for their camera's next picture; one a camera, the
    newest.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._lock = threading.Lock()
        self._active: dict[str, tuple[Query, WatchCallbacks]] = {}
        self._waiting: list[Query] = []
        self._over: list[str] = []

    def put(
        self,
        text: str,
        camera: str,
        stamp_ns: int,
        watcher: WatchCallbacks,
        past: RecalledContext = NOTHING,
    ) -> str:
        """Begin a watch at `stamp_ns` (ns) and return its query id; an empty `camera` watches every
        one. It replaces those of its cameras.

        `past` is what was remembered about it.

        Raises:
            QuestionError: no words, too many of them, or an unknown camera.
        """
        words = checked_words(text, camera, self._cameras, "the watch")
        query = Query(
            query_id=f"w-{uuid.uuid4().hex[:12]}",
            text=words,
            stamp_ns=stamp_ns,
            camera=camera,
            is_watch=True,
            past=past,
        )
        with self._lock:
            replaced = [
                other.query_id
                for other, _ in self._active.values()
                if not (camera and other.camera) or camera == other.camera
            ]
        for query_id in replaced:
            self.end(query_id, f"another watch took its camera: '{words[:80]}'")
        with self._lock:
            self._active[query.query_id] = (query, watcher)
            self._waiting.append(query)
        return query.query_id

    def take(self, showing: Sequence[str]) -> tuple[Query, ...]:
        """Remove and return, oldest first, the watches that begin now that the cameras `showing`
        have pictures.
        """
        with self._lock:
            taken = tuple(
                query
                for query in self._waiting
                if (query.camera in showing if query.camera else showing)
            )
            self._waiting = [query for query in self._waiting if query not in taken]
        return taken

    def take_over(self) -> tuple[str, ...]:
        """Remove and return the ids of the watches that are over, which the model may still follow."""
        with self._lock:
            over, self._over = tuple(self._over), []
        return over

    def followed(self, query_ids: frozenset[str], faults: Mapping[str, str]) -> frozenset[str]:
        """The model follows `query_ids`; a watch that began and is not among them was refused, for
        the `faults` (by camera) of its cameras.

        Returns the cameras whose faults a watcher was told.
        """
        with self._lock:
            waiting = {query.query_id for query in self._waiting}
            refused = [
                query
                for query_id, (query, _) in self._active.items()
                if query_id not in query_ids and query_id not in waiting
            ]
        told: set[str] = set()
        for query in refused:
            cameras = [camera for camera in faults if query.camera in ("", camera)]
            self.end(
                query.query_id,
                "; ".join(faults[camera] for camera in cameras) or "the model does not follow it",
            )
            told.update(cameras)
        return frozenset(told)

    def reported(self, utterance: Utterance) -> None:
        """Hand a stored utterance to whoever waits for it."""
        with self._lock:
            entry = self._active.get(utterance.query_id)
        if entry is not None:
            entry[1].on_report(utterance)

    def end(self, query_id: str, sentence: str) -> None:
        """Whoever waits is told why it is over."""
        watcher = self._remove(query_id)
        if watcher is not None:
            watcher.on_end(sentence)

    def withdraw(self, query_id: str) -> None:
        """Nobody waits for reports any more."""
        self._remove(query_id)

    def close(self, sentence: str) -> None:
        """End every watch."""
        with self._lock:
            active = list(self._active)
        for query_id in active:
            self.end(query_id, sentence)

    def _remove(self, query_id: str) -> WatchCallbacks | None:
        with self._lock:
            self._waiting = [query for query in self._waiting if query.query_id != query_id]
            entry = self._active.pop(query_id, None)
            if entry is not None:
                self._over.append(query_id)
        return entry[1] if entry is not None else None
