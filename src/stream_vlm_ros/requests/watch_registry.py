"""The active watches: the model gets them from here, and their reports go to the callers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stream_vlm.types import Query, RecalledContext, Utterance
from stream_vlm_ros.requests.question import checked_words
from stream_vlm_ros.requests.request_queue import RequestError, new_request_id

NOTHING = RecalledContext()


@dataclass(frozen=True)
class WatchCallbacks:
    """The callbacks of the caller of a watch. Several threads call them; they must return at once.

    Attributes:
        on_report: called with each utterance of the watch, after it is stored.
        on_end: called with one sentence that says why the watch ended, but not if its caller
            withdrew it.
    """

    on_report: Callable[[Utterance], None]
    on_end: Callable[[str], None]


@dataclass
class _Watch:
    """A watch; `number` is its place among the requests; `is_begun`: whether the model has it."""

    query: Query
    callbacks: WatchCallbacks
    number: int
    is_begun: bool = False


class WatchRegistry:
    """Holds the watches; each camera has at most one, the one that was requested last.

    A watch first waits for a frame of its camera, then it is active. Any thread may call the
    methods. Each method looks and changes under one lock, so that of two watches that come at the
    same time one is kept and the other one ends. Callbacks are called without the lock.
    """

    def __init__(self, cameras: Sequence[str], closed: str = "") -> None:
        """Make a registry without a watch.

        Args:
            cameras: the cameras that can be watched.
            closed: the message if a watch is refused before `open` is called; empty for a registry
                that is open.
        """
        self._cameras = tuple(cameras)
        self._closed = closed
        self._on_change: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._watches: dict[str, _Watch] = {}
        self._ended: list[str] = []
        self._numbers = itertools.count(1)
        self._newest: dict[str, _Watch] = {}

    def number(self) -> int:
        """Return the next number of a request for a watch, in the order of the requests.

        The memory is asked before a watch is put, and the answers may come in another order than
        the requests.
        """
        with self._lock:
            return next(self._numbers)

    def put(
        self,
        text: str,
        camera: str,
        stamp_ns: int,
        callbacks: WatchCallbacks,
        recalled: RecalledContext = NOTHING,
        number: int | None = None,
    ) -> str:
        """Add a watch, and end the watches that share a camera with it and were requested before.

        Args:
            text: what to watch for.
            camera: the camera to watch; empty means every camera.
            stamp_ns: when the watch was requested, ns.
            callbacks: called with the reports and at the end.
            recalled: the records that the memory found for it.
            number: from `number`, when the watch was requested; None means now.

        Returns:
            The query id of the watch.

        Raises:
            RequestError: the text is empty or too long, the camera does not exist, the registry
                is closed, or another watch was requested later for the same camera.
        """
        words = checked_words(text, camera, self._cameras, "the watch")
        query_id = f"w-{new_request_id()}"
        query = Query(query_id, words, stamp_ns, camera, is_watch=True, recalled=recalled)
        with self._lock:
            # Checked here, because a watch that is added after `close` would never end.
            self._raise_if_closed()
            watch = _Watch(query, callbacks, next(self._numbers) if number is None else number)
            for other in self._newest.values():
                if other.number > watch.number and _share_a_camera(other.query, query):
                    raise RequestError(_replaced_by(other.query.text))
            replaced = [
                other for other in self._watches.values() if _share_a_camera(other.query, query)
            ]
            for other in replaced:
                del self._watches[other.query.query_id]
                self._ended.append(other.query.query_id)
            self._watches[query_id] = self._newest[camera] = watch
        self._on_change()
        for other in replaced:
            other.callbacks.on_end(_replaced_by(words))
        return query_id

    def begin(self, cameras: Sequence[str]) -> tuple[Query, ...]:
        """Begin the watches of `cameras`, which have a frame now; return them, the oldest first."""
        with self._lock:
            return self._begin(cameras)

    def take_changes(self, cameras: Sequence[str]) -> tuple[tuple[Query, ...], tuple[str, ...]]:
        """Begin the watches of `cameras`, and take the ended ones, as of one moment.

        A watch that is put in between would begin while the model still follows the one that it
        replaces.

        Returns:
            The watches that begin, the oldest first, and what `take_ended` returns.
        """
        with self._lock:
            ended, self._ended = tuple(self._ended), []
            return self._begin(cameras), ended

    def take_ended(self) -> tuple[str, ...]:
        """Remove and return the query ids of ended watches, which the model may still follow."""
        with self._lock:
            ended, self._ended = tuple(self._ended), []
        return ended

    def end_refused(self, followed: frozenset[str], faults: Mapping[str, str]) -> frozenset[str]:
        """End each watch that has begun and that the model does not follow.

        Args:
            followed: query ids of the watches that the model follows.
            faults: why the model refused, by camera.

        Returns:
            The cameras whose faults the caller of a watch got.
        """
        with self._lock:
            refused = [
                watch.query
                for query_id, watch in self._watches.items()
                if watch.is_begun and query_id not in followed
            ]
        reported: set[str] = set()
        for query in refused:
            cameras = [camera for camera in faults if query.camera in ("", camera)]
            self.end(
                query.query_id,
                "; ".join(faults[camera] for camera in cameras) or "the model does not follow it",
            )
            reported.update(cameras)
        return frozenset(reported)

    def report(self, utterance: Utterance) -> None:
        """Report a stored utterance to the caller of its watch, if the watch is still active."""
        with self._lock:
            watch = self._watches.get(utterance.query_id)
        if watch is not None:
            watch.callbacks.on_report(utterance)

    def end(self, query_id: str, sentence: str) -> None:
        """End a watch, and call `on_end` of its caller with the reason."""
        watch = self._remove(query_id)
        if watch is not None:
            watch.callbacks.on_end(sentence)

    def withdraw(self, query_id: str) -> None:
        """End a watch because its caller no longer waits."""
        self._remove(query_id)

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` after each watch that is added or ends."""
        self._on_change = on_change

    def __len__(self) -> int:
        """How many watches are active or wait for a frame."""
        return len(self._watches)

    def open(self) -> None:
        """Accept watches from now on."""
        with self._lock:
            self._closed = ""

    def close(self, sentence: str, later: str = "") -> None:
        """End every watch with the reason, and refuse later ones.

        Args:
            sentence: says why they end.
            later: says why later ones are refused; empty takes `sentence`.
        """
        with self._lock:
            self._closed = later or sentence
            active = list(self._watches)
        for query_id in active:
            self.end(query_id, sentence)

    def _begin(self, cameras: Sequence[str]) -> tuple[Query, ...]:
        begun = [
            watch
            for watch in self._watches.values()
            if not watch.is_begun
            and (watch.query.camera in cameras if watch.query.camera else cameras)
        ]
        for watch in begun:
            watch.is_begun = True
        return tuple(watch.query for watch in begun)

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise RequestError(self._closed)

    def _remove(self, query_id: str) -> _Watch | None:
        with self._lock:
            watch = self._watches.pop(query_id, None)
            if watch is not None:
                self._ended.append(query_id)
        self._on_change()
        return watch


def _share_a_camera(one: Query, other: Query) -> bool:
    """Whether two watches share a camera; a watch without a camera watches all of them."""
    return not (one.camera and other.camera) or one.camera == other.camera


def _replaced_by(words: str) -> str:
    return f"another watch replaced it: '{words[:80]}'"
