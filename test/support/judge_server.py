"""A judge on the loopback interface: a real HTTP server that speaks as much of the OpenAI chat
protocol as a judgement needs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class JudgeServer:
    """What `serve_judge` gives: where it is and what it was asked.

    Attributes:
        reply: from the user's message to the reply's text; an int is an HTTP status to fail with,
            bytes are a whole body.
    """

    url: str
    reply: Callable[[str], str | int | bytes]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def serve_judge(reply: Callable[[str], str | int | bytes]) -> Iterator[JudgeServer]:
    """Answer chat completions with `reply` until the block ends."""
    judge = JudgeServer("", reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judge.requests.append(request)
            judge.headers.append(dict(self.headers))
            judge.paths.append(self.path)
            said = judge.reply(request["messages"][-1]["content"])
            body = (
                said
                if isinstance(said, bytes)
                else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            )
            self.send_response(said if isinstance(said, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A test's output is no place for an access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
