"""One server behind all cameras: its requests, its figures, and how it is waited for."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from stream_vlm.backbone.remote.exchanges import Ask, Reply, usage_of
from stream_vlm.backbone.remote.probe import Abilities, probe
from stream_vlm.backbone.remote.transport import (
    RequestRefused,
    ServerAway,
    ServerFault,
    Transport,
)
from stream_vlm.types import StreamError

SIDE_BY_SIDE = 8
"""How many requests run at the same time, unless it is set."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""How long the server is left alone after a fault, seconds; each fault in a row doubles it."""

RECENT = 256
"""Requests whose times are kept."""

MISSING_PICTURE = "cache miss"
"""In the words of vLLM where it does not have a picture that was named."""

log = logging.getLogger(__name__)


class Server:
    """Sends the requests of all cameras; one thread steps, any thread reads the figures.

    After a fault of the server nothing is sent for a while. A thread in the background probes it
    again, longer and longer apart, so no step waits for a server that is away.

    Attributes:
        transport: leads to the server.
    """

    def __init__(self, transport: Transport, name: str, side_by_side: int = SIDE_BY_SIDE) -> None:
        """Send nothing yet.

        Args:
            transport: leads to the server.
            name: the model's name; empty for the server's only model.
            side_by_side: how many requests run at the same time, those of all cameras together.
        """
        self.transport = transport
        self.name = name
        self._wait_s = FIRST_WAIT_S
        self._abilities: Abilities | None = None
        self._fault = f"{transport.address}: was not asked yet"
        self._lock = threading.Lock()
        self._salt = secrets.token_hex(16)
        self._pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="model server")
        self._waits = False
        self._request_s: deque[float] = deque(maxlen=RECENT)
        self._counts = dict.fromkeys(
            ("requests", "failed", "prompt", "cached", "resent", "dropped", "outages"), 0
        )

    def start(self) -> None:
        """Probe the server; if it is away, go on to probe it in the background.

        Raises:
            ServerFault: it lacks what a stream needs, or refuses access.
        """
        try:
            self._found(probe(self.transport, self.name))
        except ServerFault as error:
            wrong_place = isinstance(error, RequestRefused) and error.status == 404
            if wrong_place or not is_passing(error):
                raise
            log.warning("%s; it is tried again and again", error)
            self.leave_alone(error)

    @property
    def abilities(self) -> Abilities:
        """What the server can do.

        Raises:
            ServerAway: it is left alone for now, or was never reached.
        """
        with self._lock:
            if self._abilities is None or self._fault:
                raise ServerAway(self._fault)
            return self._abilities

    @property
    def last_abilities(self) -> Abilities | None:
        """What the server could do when it was probed last; None if it never was."""
        return self._abilities

    @property
    def fault(self) -> str:
        """Why nothing is sent now, or empty."""
        return self._fault

    @property
    def figures(self) -> dict[str, object]:
        """Counts and times for /diagnostics."""
        with self._lock:
            counts, times = dict(self._counts), sorted(self._request_s)
        figures: dict[str, object] = {
            "server requests": counts["requests"],
            "server requests failed": counts["failed"],
            "server outages": counts["outages"],
            "frames dropped at the server": counts["dropped"],
            "pictures sent again": counts["resent"],
        }
        if counts["prompt"]:
            figures["cached share of prompt tokens"] = counts["cached"] / counts["prompt"]
        if times:
            figures["server request p50 (ms)"] = 1e3 * times[len(times) // 2]
            figures["server request p95 (ms)"] = 1e3 * times[int(0.95 * (len(times) - 1))]
        return figures

    def submit(self, ask: Ask, until: float) -> Future[Reply]:
        """Begin a request that ends by `until`, in the time of `time.monotonic`."""
        return self._pool.submit(self._send, ask, until)

    def dropped(self, frames: int) -> None:
        """Count frames that the server did not judge."""
        with self._lock:
            self._counts["dropped"] += frames

    def answered(self) -> None:
        """Take in that a step succeeded: the next fault waits shortly again."""
        self._wait_s = FIRST_WAIT_S

    def leave_alone(self, fault: StreamError) -> None:
        """Send nothing until the server was probed again; the wait doubles with every fault."""
        with self._lock:
            self._fault = str(fault)
            if self._waits:
                return
            self._waits = True
            self._counts["outages"] += 1
        # The thread holds no reference, so it ends when nobody uses the server any more.
        threading.Thread(
            target=_wait_for, args=(weakref.ref(self),), name="model server probe", daemon=True
        ).start()

    def probe_again(self) -> bool:
        """Probe once; whether the server can be used again."""
        try:
            self._found(probe(self.transport, self.name))
        except StreamError as error:
            with self._lock:
                self._fault = str(error)
            return False
        log.warning("%s: answers again", self.transport.address)
        return True

    def next_wait_s(self) -> float:
        """How long to wait before the next probe, seconds."""
        wait_s, self._wait_s = self._wait_s, min(2.0 * self._wait_s, LONGEST_WAIT_S)
        return wait_s

    def _found(self, abilities: Abilities) -> None:
        with self._lock:
            self._abilities, self._fault, self._waits = abilities, "", False

    def _send(self, ask: Ask, until: float) -> Reply:
        try:
            return self._sent(ask.body(True), until, ask.session)
        except RequestRefused as error:
            lost = error.status == 400 and MISSING_PICTURE in error.reason.casefold()
            # A picture that came with a request that was refused is half known: naming it again
            # ends in a 500, and its bytes mend it.
            if not lost and error.status != 500:
                raise
            with self._lock:
                self._counts["resent"] += 1
            return self._sent(ask.body(False), until, ask.session)

    def _sent(self, body: Mapping[str, Any], until: float, session: str) -> Reply:
        abilities, started = self._abilities, time.monotonic()
        assert abilities is not None, "requests are made only after a probe"
        request = {"model": abilities.model, **abilities.always, **body}
        if abilities.salts:
            request["cache_salt"] = self._salt
        left = until - started
        if left <= 0.0:
            raise ServerAway(
                f"{self.transport.address}: no time is left for a request in this step"
            )
        try:
            reply = self.transport.chat(request, left, session)
        except ServerFault:
            with self._lock:
                self._counts["requests"] += 1
                self._counts["failed"] += 1
            raise
        prompt, cached = usage_of(reply)
        with self._lock:
            self._counts["requests"] += 1
            self._counts["prompt"] += prompt
            self._counts["cached"] += cached
            self._request_s.append(time.monotonic() - started)
        return reply


def is_passing(fault: StreamError) -> bool:
    """Whether `fault` is one of the server as a whole that may pass, so that it is left alone."""
    if isinstance(fault, RequestRefused):
        # 404: another model was loaded, which a new probe finds.
        return fault.status in (404, 429) or fault.status >= 500
    return isinstance(fault, ServerAway)


def _wait_for(reference: weakref.ref[Server]) -> None:
    """Probe the server until it can be used or nobody needs it any more."""
    while (server := reference()) is not None:
        wait_s = server.next_wait_s()
        del server
        time.sleep(wait_s)
        if (server := reference()) is None or server.probe_again():
            return
        del server
