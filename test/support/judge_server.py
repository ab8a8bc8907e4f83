"""A local HTTP server with the part of the OpenAI chat protocol that a judge needs."""

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
    """The address of a running server and the requests that it got.

    Attributes:
        url: base URL of the API.
        reply: gives the text of the reply for the user's message. An int is the HTTP status of a
            failure; bytes are the whole body of the response.
        requests: bodies of the requests.
        headers: headers of the requests.
        paths: paths of the requests.
    """

    url: str
    reply: Callable[[str], str | int | bytes]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def serve_judge(reply: Callable[[str], str | int | bytes]) -> Iterator[JudgeServer]:
    """Answer chat completions with `reply` while the block runs."""
    judge = JudgeServer("", reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judge.requests.append(request)
            judge.headers.append(dict(self.headers))
            judge.paths.append(self.path)
            answer = judge.reply(request["messages"][-1]["content"])
            body = (
                answer
                if isinstance(answer, bytes)
                else json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            )
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing, to keep the output of the tests short."""

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
