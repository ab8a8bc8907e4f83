"""What the node holds from activate to deactivate: subscriptions, the sampling timer and the
worker.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from stream_vlm.loop.harness import StreamingHarness
from stream_vlm.loop.load_governor import LoadGovernor
from stream_vlm.loop.sampler import LatestFrames
from stream_vlm.model_protocol import Model, Turn
from stream_vlm.sources.pose_buffer import PoseBuffer
from stream_vlm.types import Frame, StreamError
from stream_vlm_ros.common.health_counters import FaultLog, StepHealth
from stream_vlm_ros.inputs.camera_subscription import Camera, CameraMessage
from stream_vlm_ros.inputs.odometry_subscription import OdometrySubscription
from stream_vlm_ros.inputs.session_tracker import Sessions
from stream_vlm_ros.lifecycle.configured import Configured
from stream_vlm_ros.model_thread.worker import Stream, Worker
from stream_vlm_ros.requests.picture_query import picture_query_queue
from stream_vlm_ros.requests.question import question_queue
from stream_vlm_ros.requests.watch_registry import WatchRegistry

FLUSH_S = 10.0
"""Longest wait, when the node stops looking, for steps to be stored and said."""


class Watching:
    """The stream from the cameras' topics to the memory, running."""

    def __init__(self, node: Node, configured: Configured) -> None:
        self._node = node
        self._configured = configured
        settings = configured.settings
        logger = node.get_logger()
        warm_up(configured.model)
        sampler: LatestFrames[CameraMessage] = LatestFrames()
        self.sampler = sampler
        self.poses = PoseBuffer()
        self.sessions = Sessions(sampler, self.poses, settings.cameras, logger.warning)
        self.odometry_faults = FaultLog(logger.warning)
        self.steps = StepHealth(FaultLog(logger.error))
        self.governor = LoadGovernor(settings, configured.model.takes_any_size)
        self.questions = question_queue()
        self.watches = WatchRegistry(settings.cameras)
        self.picture_queries = picture_query_queue()
        with ExitStack() as stack:
            stack.callback(self._drain)
            self.cameras = {}
            for name in settings.cameras:
                camera = self.cameras[name] = Camera(node, name, settings, sampler, self.sessions)
                stack.callback(camera.destroy)
            if settings.pose.odom_topic:
                odometry = OdometrySubscription(node, settings, self.poses, self.odometry_faults)
                stack.callback(odometry.destroy)
            stream = Stream(
                harness=StreamingHarness(
                    settings,
                    configured.model,
                    self.sessions.session_id,
                    configured.newest_summaries.lines,
                ),
                sessions=self.sessions,
                questions=self.questions,
                watches=self.watches,
                picture_queries=self.picture_queries,
                poses=self.poses,
                cameras={name: camera.health for name, camera in self.cameras.items()},
                steps=self.steps,
                governor=self.governor,
                writer=configured.writer,
                summaries=configured.summaries,
            )
            worker = Worker(stream, logger.error)
            self.picture_queries.listen(worker.notify)
            if configured.summaries is not None:
                configured.summaries.jobs.listen(worker.notify)
            worker.start()
            stack.callback(worker.stop)
            stack.callback(self.sessions.watch_clock(node.get_clock()).unregister)
            self._timer = node.create_timer(
                1.0 / settings.stream.rate_hz,
                worker.tick,
                callback_group=MutuallyExclusiveCallbackGroup(),
                clock=node.get_clock(),
            )
            stack.callback(node.destroy_timer, self._timer)
            configured.questions, configured.watches, configured.picture_queries = (
                self.questions,
                self.watches,
                self.picture_queries,
            )
            self._stack = stack.pop_all()

    def apply_settings(self) -> None:
        """A parameter changed: only the timer holds a copy of one."""
        self._timer.timer_period_ns = round(1e9 / self._configured.settings.stream.rate_hz)

    def close(self) -> None:
        """Stop looking; what was seen is stored and said first."""
        self._stack.close()

    def _drain(self) -> None:
        self._configured.writer.flush(FLUSH_S)
        self._configured.questions = self._configured.watches = None
        self._configured.picture_queries = None
        self.questions.close(
            "the node was deactivated before the answer came; activate it and ask again"
        )
        self.picture_queries.close(
            "the node was deactivated, its model does not look; activate it, or ask with"
            " like_record"
        )
        self.watches.close("the node was deactivated; activate it and watch again")


def warm_up(model: Model) -> None:
    """Look at one black picture and forget it: the first real one should not pay for lazy
    initialisation.

    Raises:
        StreamError: the model cannot look at a picture at all.
    """
    black = Frame("warm-up", 1, "", np.zeros((480, 640, 3), np.uint8))
    outcome = model.step([Turn(model.open_stream(black.camera), black)])[0]
    if isinstance(outcome, StreamError):
        raise outcome
