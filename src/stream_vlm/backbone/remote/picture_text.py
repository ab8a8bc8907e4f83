"""Texts about a picture that the server's model writes while the streams go on."""

from __future__ import annotations

import time
from concurrent.futures import Future, TimeoutError
from typing import Any

from stream_vlm.backbone.remote.exchanges import Ask, Reply
from stream_vlm.backbone.remote.pictures import picture_to_send
from stream_vlm.backbone.remote.server import Server
from stream_vlm.backbone.remote.transport import NotTheProtocol
from stream_vlm.types import Frame
from stream_vlm.unicode_text import mend

LONGEST_S = 60.0
"""The longest time for a text, seconds; no step waits for it."""

LOOK_S = 0.01
"""How long a slice waits for the reply, seconds."""


class ServerPictureWriter:
    """Has texts about pictures written with one instruction, each by one request.

    Args:
        server: the server.
        task: the instruction.
        most_written: the most tokens of a text.
    """

    def __init__(self, server: Server, task: str, most_written: int) -> None:
        self._server, self._task, self._most_written = server, task, most_written

    def begin(self, frame: Frame) -> ServerWriting:
        """Send the picture of `frame`.

        Raises:
            ServerAway: the server is left alone for now.
            PictureRefused: the picture cannot be sent.
        """
        _ = self._server.abilities
        picture = picture_to_send(frame.image)
        body: dict[str, Any] = {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": picture.url}},
                        {"type": "text", "text": self._task},
                    ],
                }
            ],
            "max_tokens": self._most_written,
            "temperature": 0.0,
        }
        until = time.monotonic() + LONGEST_S
        return ServerWriting(self._server.submit(Ask(lambda _: body, "caption"), until))


class ServerWriting:
    """A text that the server writes.

    Attributes:
        text: the whole text once it is there.
        is_over: whether it is there.
    """

    def __init__(self, reply: Future[Reply]) -> None:
        self.text = ""
        self.is_over = False
        self._reply = reply

    def advance(self) -> None:
        """Look whether the reply is there.

        Raises:
            ServerFault: there is no usable reply.
        """
        try:
            reply = self._reply.result(LOOK_S)
        except TimeoutError:
            if self._reply.done():
                raise
            return
        try:
            content = reply["choices"][0]["message"]["content"]
            if not isinstance(content, str):
                raise TypeError(f"the content is {content!r}")
        except (KeyError, IndexError, TypeError) as error:
            raise NotTheProtocol(f"the reply about a picture has no text: {error!r}") from error
        self.text, self.is_over = mend(content), True
