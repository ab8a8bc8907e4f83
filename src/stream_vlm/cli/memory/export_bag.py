"""Export a memory as a ROS 2 bag (MCAP) for Foxglove, PlotJuggler and `ros2 bag`."""

from __future__ import annotations

import heapq
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from sqlite_utils import Database

from stream_vlm.memory.storage.connections import transaction
from stream_vlm.memory.storage.encryption import Key
from stream_vlm.memory.storage.errors import translate_errors
from stream_vlm.memory.storage.file import check_for_reading, open_for_reading
from stream_vlm.sources.rosbag_writer import BagWriter

RECORD_TOPIC, POSE_TOPIC = "/memory/record", "/memory/pose"


def export_bag(path: Path, folder: Path, busy_timeout_s: float, key: Key | None = None) -> int:
    """Write the memory at `path` as the new bag `folder`; return the number of messages.

    Records are std_msgs/String with JSON on /memory/record, poses geometry_msgs/PoseStamped on
    /memory/pose, pictures sensor_msgs/CompressedImage on /memory/CAMERA/compressed. The recording
    time of a message is the end of its record (`end_ns`) or the stamp of its picture. If it fails,
    nothing of the bag remains.

    Raises:
        MemoryFileError: the memory cannot be read.
        SourceError: the folder exists or cannot be written.
    """
    check_for_reading(path, busy_timeout_s, key)
    written = 0
    # The bag shows the same data as the memory, so nobody else may read it from its first byte on.
    mask = os.umask(0o077)
    try:
        writer = BagWriter(folder, "mcap")
        with (
            writer,
            closing(open_for_reading(path, busy_timeout_s, key)) as db,
            translate_errors(path),
            transaction(db, "DEFERRED"),
        ):
            # In order of time, because players and viewers read a bag from start to end.
            for stamp_ns, topic, message in heapq.merge(
                _pictures(db, writer), _records(db, writer), key=lambda entry: entry[0]
            ):
                writer.message(topic, max(stamp_ns, 0), message)
                written += 1
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.umask(mask)
    return written


def _pictures(db: Database, writer: BagWriter) -> Iterator[tuple[int, str, Any]]:
    for camera, frame_id, stamp_ns, jpeg in db.execute(
        "SELECT camera, frame_id, stamp_ns, jpeg FROM picture ORDER BY stamp_ns"
    ):
        header = writer.header(stamp_ns, frame_id)
        message = writer.make(
            "sensor_msgs/msg/CompressedImage",
            header=header,
            format="jpeg",
            data=np.frombuffer(jpeg, np.uint8),
        )
        yield stamp_ns, f"/memory/{camera}/compressed", message


def _records(db: Database, writer: BagWriter) -> Iterator[tuple[int, str, Any]]:
    rows = db.execute(
        "SELECT record.*, ifnull(thing_id, 0) AS object_id, ifnull(sighting.confidence, 0.0) AS"
        " object_confidence FROM record LEFT JOIN sighting ON record_id = record.id"
        " ORDER BY end_ns, record.id"
    )
    names = [column[0] for column in rows.description]
    for values in rows:
        record = dict(zip(names, values, strict=True))
        yield (
            record["end_ns"],
            RECORD_TOPIC,
            writer.make("std_msgs/msg/String", data=json.dumps(record, ensure_ascii=False)),
        )
        if record["x"] is not None:
            point = writer.make("geometry_msgs/msg/Point", **{axis: record[axis] for axis in "xyz"})
            turn = writer.make(
                "geometry_msgs/msg/Quaternion", **{axis: record[f"q{axis}"] for axis in "xyzw"}
            )
            pose = writer.make("geometry_msgs/msg/Pose", position=point, orientation=turn)
            header = writer.header(record["end_ns"], record["pose_frame"])
            yield (
                record["end_ns"],
                POSE_TOPIC,
                writer.make("geometry_msgs/msg/PoseStamped", header=header, pose=pose),
            )
