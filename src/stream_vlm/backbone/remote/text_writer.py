"""Texts that the server's model writes by instruction, about lines or about a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, wait

from stream_vlm.backbone.remote.exchanges import Ask, Reply
from stream_vlm.backbone.remote.judging import words_of
from stream_vlm.backbone.remote.pictures import picture_to_send
from stream_vlm.backbone.remote.server import Server
from stream_vlm.backbone.remote.stream import CHARS_PER_TOKEN
from stream_vlm.backbone.remote.transport import ServerAway
from stream_vlm.types import Frame

SLICE_S = 0.02
"""How long one call waits for the server, seconds."""

PATIENCE_S = 60.0
"""The longest time for a whole text, seconds."""


class RemoteTextWriter:
    """Writes texts with one instruction.

    Args:
        server: the server.
        task: the instruction.
        most_read: the most tokens of lines that are read for a text.
        most_written: the most tokens of a text.
        patience_s: the longest time for a whole text, seconds.
    """

    def __init__(
        self,
        server: Server,
        task: str,
        most_read: int,
        most_written: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._server, self._task = server, task
        self._chars, self._longest = most_read * CHARS_PER_TOKEN, most_written
        self._patience_s = patience_s

    def begin(self, lines: Sequence[str]) -> RemoteWriting:
        """Begin a text about the newest of `lines`, as many as may be read."""
        kept: list[str] = []
        left = self._chars
        for line in reversed(lines):
            left -= len(line) + 1
            if left < 0 and kept:
                break
            kept.insert(0, line[-self._chars :])
        fields = {
            "messages": [
                {"role": "system", "content": self._task},
                {"role": "user", "content": "\n".join(kept)},
            ],
            "temperature": 0.0,
            "max_tokens": self._longest,
        }
        return RemoteWriting(self._server, Ask(lambda by_name: fields, "text"), self._patience_s)


class RemotePictureWriter:
    """Writes texts about pictures with one instruction, as `RemoteTextWriter` does about lines."""

    def __init__(
        self, server: Server, task: str, most_written: int, patience_s: float = PATIENCE_S
    ) -> None:
        self._server, self._task, self._longest = server, task, most_written
        self._patience_s = patience_s

    def begin(self, frame: Frame) -> RemoteWriting:
        """Begin a text about `frame`.

        Raises:
            PictureRefused: the picture cannot be sent.
        """
        picture = picture_to_send(frame.image)
        parts = [
            {"type": "image_url", "image_url": {"url": picture.url}},
            {"type": "text", "text": self._task},
        ]
        fields = {
            "messages": [{"role": "user", "content": parts}],
            "temperature": 0.0,
            "max_tokens": self._longest,
        }
        return RemoteWriting(self._server, Ask(lambda by_name: fields, "text"), self._patience_s)


class RemoteWriting:
    """A text that the server writes; it is there all at once.

    The server writes while the streams step. While the server is away the text waits for it.
    """

    def __init__(self, server: Server, ask: Ask, patience_s: float) -> None:
        self._server, self._ask = server, ask
        self._until = time.monotonic() + patience_s
        self._reply: Future[Reply] | None = None
        self._text = ""
        self._over = False

    @property
    def text(self) -> str:
        """The text; empty until it is complete."""
        return self._text

    @property
    def is_over(self) -> bool:
        """Whether the text is complete."""
        return self._over

    def advance(self) -> None:
        """Wait a little for the server.

        Raises:
            StreamError: the server refused, or did not answer in time. The text is lost.
        """
        if self._over:
            return
        if self._reply is None:
            self._begin()
            return
        wait([self._reply], timeout=SLICE_S)
        if not self._reply.done():
            if time.monotonic() > self._until:
                raise ServerAway(
                    f"{self._server.transport.address}: a text was not written in time"
                )
            return
        # A slow text says nothing about the streams, so the server is not left alone for it.
        self._text, self._over = words_of(self._reply.result(), report=False), True

    def _begin(self) -> None:
        fault = self._server.fault
        if not fault:
            self._reply = self._server.submit(self._ask, self._until)
        elif time.monotonic() > self._until:
            raise ServerAway(fault)
        else:
            time.sleep(SLICE_S)
