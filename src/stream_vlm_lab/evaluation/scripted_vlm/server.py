"""A test server with the OpenAI chat protocol around a scripted model."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm_lab.evaluation.scripted_vlm.answerer import ScriptedVlm, pieces_of, token_id

MOST_BYTES = 64 * 2**20
"""A longer request is refused."""


def make_server(vlm: ScriptedVlm, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """A server that answers for `vlm`; call `serve_forever` and later `server_close`.

    Args:
        vlm: the scripted model.
        host: address to listen on.
        port: port to listen on; 0 for any free one (`server_address` says which).

    Raises:
        OSError: the port is taken or the address is not this machine's.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path in ("/v1/models", "/models"):
                model = {"id": vlm.name, "object": "model", "max_model_len": 1_000_000}
                self._answer(200, {"object": "list", "data": [model]})
            elif self.path == "/health":
                self._answer(200, {})
            else:
                self._refuse(404, f"{self.path} is not served")

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MOST_BYTES:
                self.close_connection = True
                self._refuse(413, f"a body of {length} bytes is refused; send 1 to {MOST_BYTES}")
                return
            body = self.rfile.read(length)
            try:
                request = json.loads(body)
                if self.path in ("/v1/chat/completions", "/chat/completions"):
                    self._answer(200, vlm.chat(request))
                elif self.path == "/tokenize":
                    ids = [token_id(piece) for piece in pieces_of(str(request["prompt"]))]
                    self._answer(200, {"tokens": ids, "count": len(ids)})
                else:
                    self._refuse(404, f"{self.path} is not served")
            except (StreamError, ValueError, KeyError, TypeError, AttributeError) as error:
                self._refuse(400, f"{type(error).__name__}: {error}")

        def _refuse(self, status: int, reason: str) -> None:
            self._answer(status, {"error": {"message": reason, "type": "invalid_request_error"}})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    return ThreadingHTTPServer((host, port), Handler)
