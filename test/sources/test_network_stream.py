"""Streams of the network: the newest frame, after an outage too, and no secret in any message."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from threading import Thread

import pytest
from stream_fixtures import PASSWORD, SECRETS, MjpegServer, RtspServer, mjpeg_server, rtsp_server
from video_fixtures import regular, write_video

from stream_vlm.sources import SourceError, open_source
from stream_vlm.sources.network_stream import NetworkStream
from stream_vlm.sources.source import Reconnect

PATIENT = Reconnect(timeout_s=60.0, first_wait_s=0.1, longest_wait_s=0.5)
"""The first picture of GStreamer takes long on a busy machine."""


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    with rtsp_server() as server:
        yield server


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    with mjpeg_server() as server:
        yield server


def without_secrets(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


def test_an_rtsp_camera_is_watched_again_after_its_server_was_killed(
    rtsp: RtspServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    source = open_source(rtsp.url, reconnect=PATIENT)
    assert isinstance(source, NetworkStream)
    assert source.live
    assert source.duration_s is None
    frames = source.frames()
    first = list(islice(frames, 3))
    assert first[0].image.shape == (48, 64, 3)
    assert all(later.stamp_ns > earlier.stamp_ns for earlier, later in pairwise(first))
    rtsp.kill()
    while not caplog.records:  # frames that were on their way
        assert source._stopping.wait(0.01) is False  # noqa: SLF001
    lost_ns = time.time_ns()
    rtsp.start()
    assert next(frame for frame in frames if frame.stamp_ns > lost_ns).image.any()
    frames.close()  # type: ignore[attr-defined]
    said = [record.getMessage() for record in caplog.records]
    assert ["broke off" in line for line in said] == [True, False]
    assert "pictures arrive again" in said[1]
    assert without_secrets(" ".join(said) + source.name + "".join(capfd.readouterr()))


def test_a_wrong_password_is_refused_without_showing_it(
    rtsp: RtspServer, capfd: pytest.CaptureFixture[str]
) -> None:
    url = rtsp.url.replace(PASSWORD, "wr0ng-one")
    with pytest.raises(
        SourceError, match=r"rtsp://\*\*\*@127\.0\.0\.1:\d+/live\?\*\*\*: "
    ) as error:
        open_source(url, reconnect=PATIENT)
    printed = "".join(capfd.readouterr()) + str(error.value)
    assert without_secrets(printed.replace("password", ""))
    assert "wr0ng" not in printed


def test_a_slow_reader_of_an_http_stream_gets_the_newest_picture(mjpeg: MjpegServer) -> None:
    frames = NetworkStream(mjpeg.url, reconnect=PATIENT).frames()
    next(frames)
    count = mjpeg.sent + 60
    mjpeg.wait_for(count)
    next(frames)  # may have been there already
    newest = next(frames).image.mean() - 20
    assert newest == pytest.approx(mjpeg.sent % 200, abs=40)
    frames.close()  # type: ignore[attr-defined]


def test_each_outage_of_an_http_stream_is_logged_once(
    mjpeg: MjpegServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    frames = NetworkStream(mjpeg.url, reconnect=PATIENT).frames()
    for _ in range(2):
        next(frames)
        begun = len(caplog.records)
        mjpeg.break_off()
        while len(caplog.records) < begun + 2:
            next(frames)
    frames.close()  # type: ignore[attr-defined]
    said = [record.getMessage() for record in caplog.records]
    assert ["broke off" in line for line in said] == [True, False, True, False]
    assert without_secrets(" ".join(said))


def test_a_stream_ends_after_the_wanted_seconds(mjpeg: MjpegServer) -> None:
    frames = list(open_source(mjpeg.url, seconds=0.5, reconnect=PATIENT).frames())
    assert frames
    assert frames[-1].stamp_ns - frames[0].stamp_ns < 5e9


def test_the_command_line_watches_a_stream_and_keeps_no_secret(
    mjpeg: MjpegServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "stream_vlm.cli", "run", mjpeg.url]
    command += ["--out", str(tmp_path / "out"), "--seconds", "1", "--stream-timeout", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    mjpeg.wait_for(1)
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    assert b" ticks over " in out
    assert (tmp_path / "out" / "memory.db").stat().st_size > 0
    kept = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert without_secrets(shown + out.decode() + err.decode())
    assert not any(secret.encode() in kept for secret in SECRETS)


def test_an_interruption_ends_a_stream(mjpeg: MjpegServer) -> None:
    program = (
        "import sys; from stream_vlm.sources import open_source;"
        " [print('frame', flush=True) for _ in open_source(sys.argv[1]).frames()]"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, mjpeg.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"frame\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert b"KeyboardInterrupt" in err


def test_a_file_on_a_web_server_is_no_stream(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", regular(60), container_options={"movflags": "faststart"})
    handler = partial(SimpleHTTPRequestHandler, directory=os.fspath(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/clip.mp4?token=abc"
        with pytest.raises(SourceError, match=r"clip\.mp4\?\*\*\*: is a video file with an end"):
            open_source(url, reconnect=PATIENT)
        server.shutdown()


def test_a_server_that_is_not_there_is_refused_in_one_sentence() -> None:
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@127\.0\.0\.1:9/live: the stream cannot"):
        open_source("rtsp://eva:pw@127.0.0.1:9/live")


@pytest.mark.parametrize("scheme", ["rtmp", "udp", "srt", "ftp", "webrtc", "file"])
def test_a_scheme_that_is_not_supported_is_refused_in_one_sentence(scheme: str) -> None:
    with pytest.raises(
        SourceError, match=rf"^{scheme}://\*\*\*@cam/x: streams of the kind {scheme}"
    ):
        open_source(f"{scheme}://eva:pw@cam/x")


def test_the_waits_of_an_outage_double_up_to_the_longest() -> None:
    waits = Reconnect(1.0, 0.5, 3.0).waits_s()
    assert [next(waits) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("values", [(0.0, 0.5, 3.0), (1.0, 0.0, 3.0), (1.0, 5.0, 3.0)])
def test_waits_that_make_no_sense_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(SourceError, match="above 0"):
        Reconnect(*values)
