"""A real RTSP server on loopback, of GStreamer: run by the system's Python, which knows `gi`.

`rtsp_server.py PORT [USER PASSWORD]` serves a small live picture at /live, prints its port and runs
until it is killed. Port 0 takes a free one.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main(port: str, user: str = "", password: str = "") -> None:
    """Serve until the process is killed."""
    gi: Any = importlib.import_module("gi")
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    modules: list[Any] = [
        importlib.import_module(f"gi.repository.{name}")
        for name in ("Gst", "GstRtspServer", "GLib")
    ]
    gst, rtsp, glib = modules
    gst.init(None)
    server = rtsp.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = rtsp.RTSPMediaFactory()
    factory.set_launch(
        "( videotestsrc is-live=true pattern=ball"
        " ! video/x-raw,format=I420,width=64,height=48,framerate=20/1"
        " ! jpegenc ! rtpjpegpay name=pay0 )"
    )
    factory.set_shared(True)
    if user:
        auth, token, permissions = rtsp.RTSPAuth(), rtsp.RTSPToken(), rtsp.RTSPPermissions()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(rtsp.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        permissions.add_role("viewer")
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    glib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
