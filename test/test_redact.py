"""Addresses are shown without user, password, query and other secrets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stream_vlm.redact import redact


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://10.0.0.7:554/live", "rtsp://10.0.0.7:554/live"),
        ("rtsp://eva:pw@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
        ("rtsp://eva@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
        ("rtsp://:pw@cam/live", "rtsp://***@cam/live"),
        ("rtsp://eva:p@ss@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://eva:p/w@cam/live", "rtsp://***@cam/live"),
        ("rtsp://eva:p?w@cam/live", "rtsp://***@cam/live"),
        ("rtsp://eva:p#w@cam/live", "rtsp://***@cam/live"),
        ("rtsp://eva:p%40w@[fe80::1]:554/a", "rtsp://***@[fe80::1]:554/a"),
        ("RTSP://eva:pw@cam", "RTSP://***@cam"),
        ("http://cam/a.mjpg?user=eva&pwd=pw", "http://cam/a.mjpg?***"),
        ("https://eva:pw@cam/a.m3u8?token=t#part", "https://***@cam/a.m3u8?***"),
        ("https://cam/a#token=t", "https://cam/a#***"),
        (
            "rtsp://cam/user=admin_password=pw_channel=1",
            "rtsp://cam/user=***_password=***_channel=1",
        ),
        ("http://cam/a@b/c", "http://cam/a@b/c"),
        ("foo://eva:pw@cam", "foo://***@cam"),
        ("clip.mp4", "clip.mp4"),
        ("world:7", "world:7"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert redact(address) == shown


def test_every_address_in_a_sentence_is_hidden() -> None:
    text = "opening rtsp://a:b@h/x failed; rtsp://c:d@i/y?k=z too"
    assert redact(text) == "opening rtsp://***@h/x failed; rtsp://***@i/y?*** too"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the command line so")
def test_the_command_line_that_others_see_has_no_secrets() -> None:
    program = (
        "import sys; from pathlib import Path; from stream_vlm.redact import"
        " hide_arguments; hide_arguments(sys.argv[1:]);"
        " print(Path('/proc/self/cmdline').read_bytes()); print(sys.argv[1])"
    )
    url = "rtsp://eva:s3cret@10.0.0.7/live?token=abc"
    ran = subprocess.run(
        [sys.executable, "-c", program, url, "--seconds", "3"],
        capture_output=True,
        text=True,
        check=True,
    )
    shown, still_known = ran.stdout.splitlines()
    assert "rtsp://***@10.0.0.7/live?***" in shown
    assert "--seconds" in shown
    assert "s3cret" not in shown
    assert "abc" not in shown
    assert still_known == url
