"""Live streams on loopback, from real servers: RTSP by GStreamer, MJPEG over HTTP."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

USER, PASSWORD, TOKEN = "eva", "s3cret-pw", "tok-4711"
SECRETS = (USER, PASSWORD, TOKEN)
SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")


class RtspServer:
    """GStreamer's RTSP server as a process of its own, which can be killed and started again."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.port = "0"

    @property
    def url(self) -> str:
        return f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/live?token={TOKEN}"

    def start(self) -> None:
        """Start it, at the port of the last time; skips the test where it cannot run."""
        command = [SYSTEM_PYTHON, str(SERVER), self.port, USER, PASSWORD]
        try:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            pytest.skip(f"{SYSTEM_PYTHON} is not here")
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            pytest.skip(
                "GStreamer's RTSP server is not installed (apt-get install python3-gi"
                " gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good)"
            )
        self.port = port

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def rtsp_server() -> Iterator[RtspServer]:
    """A running RTSP server."""
    server = RtspServer()
    try:
        server.start()
        yield server
    finally:
        server.kill()


class MjpegServer:
    """Sends numbered grey pictures at /stream.mjpg, to whoever gives user and password.

    Attributes:
        sent: number of pictures that were sent; picture n has the brightness n % 200 + 20.
        paths: the paths that were asked for.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.paths: list[str] = []
        self.has_sent = threading.Condition()
        self._pause = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                if self.headers.get("Authorization") != f"Basic {wanted}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
                self.end_headers()
                with suppress(OSError):
                    while not outer._pause.wait(0.02):
                        self.wfile.write(outer._part())

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        port = self._server.server_port
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{port}/stream.mjpg?token={TOKEN}"

    def _part(self) -> bytes:
        picture = np.full((48, 64, 3), self.sent % 200 + 20, np.uint8)
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        with self.has_sent:
            self.sent += 1
            self.has_sent.notify_all()
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n"

    def wait_for(self, count: int) -> None:
        """Wait until so many pictures were sent in all."""
        with self.has_sent:
            assert self.has_sent.wait_for(lambda: self.sent >= count, timeout=60)

    def break_off(self) -> None:
        """End every connection and go on with new ones."""
        self._pause.set()
        with self.has_sent:
            self.has_sent.wait_for(lambda: False, timeout=0.3)
        self._pause.clear()

    def close(self) -> None:
        self._pause.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def mjpeg_server() -> Iterator[MjpegServer]:
    """A running MJPEG server."""
    server = MjpegServer()
    try:
        yield server
    finally:
        server.close()
