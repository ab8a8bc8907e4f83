"""The services `~/recall`, `~/get_frame` and `~/forget`.

The memory answers them with its own database connections, so they do not wait for the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.node import Node

from stream_vlm.memory.answers.question_kind import Question
from stream_vlm.memory.search.query import RecallQuery, RecallResult
from stream_vlm.memory.search.query_time import with_time_at
from stream_vlm.memory.storage.errors import MemoryFileError
from stream_vlm.pipeline import Pipeline
from stream_vlm.types import StreamError
from stream_vlm_ros.common.conversions import (
    evidence_message,
    forget_query,
    recall_query,
    recall_response,
    record_message,
)
from stream_vlm_ros.common.first_result import FirstResult
from stream_vlm_ros.requests.picture_query import PictureQuery
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue
from stream_vlm_ros.srv import Forget, GetFrame, Recall

FLUSH_S = 5.0
"""Longest wait for steps that are not stored yet, seconds; `~/forget` deletes them too."""


class MemoryServices:
    """Serves `~/recall`, `~/get_frame` and `~/forget`."""

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline,
        pictures: RequestQueue[PictureQuery],
    ) -> None:
        """Make the services.

        Args:
            node: the node.
            pipeline: has the memory.
            pictures: picture queries to the model.
        """
        self._node = node
        self._pipeline = pipeline
        self._memory = pipeline.memory
        self._pictures = pictures
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(Recall, "~/recall", self._recall, callback_group=group),
            node.create_service(GetFrame, "~/get_frame", self._get_frame, callback_group=group),
            # In its own callback group, because a large request takes seconds.
            node.create_service(
                Forget, "~/forget", self._forget, callback_group=MutuallyExclusiveCallbackGroup()
            ),
        ]

    def destroy(self) -> None:
        """Destroy the services."""
        for service in self._services:
            self._node.destroy_service(service)

    async def _recall(self, request: Recall.Request, response: Recall.Response) -> Recall.Response:
        try:
            query = recall_query(request)
            if request.mode:
                # "Yesterday at 3 pm" is a filter, like the stamps of the request.
                query = with_time_at(query, self._node.get_clock().now().nanoseconds)
                return recall_response(self._memory.answer(Question(query, request.mode)), response)
            result = await self._search(request, query)
        except StreamError as error:
            response.message = self._refusal("recall", error)
            return response
        response.success = True
        response.records = [record_message(record) for record in result.records]
        response.total = result.total
        response.took_ms = result.took_ms
        response.note = result.note
        return response

    async def _search(self, request: Recall.Request, query: RecallQuery) -> RecallResult:
        if request.like_record:
            return self._memory.search_by_record(request.like_record, query)
        if not request.like.data:
            return self._memory.recall(query)
        outcome: FirstResult[tuple[NDArray[np.float32], str] | str] = FirstResult(
            self._node.executor
        )
        self._pictures.put(
            PictureQuery(
                file=bytes(request.like.data),
                on_vector=lambda vector, model_id: outcome.set((vector, model_id)),
                on_failure=outcome.set,
            )
        )
        embedded = await outcome.future
        if isinstance(embedded, str):
            raise RequestError(embedded)
        vector, model_id = embedded
        return self._memory.search_by_picture(vector, query, model_id)

    def _get_frame(
        self, request: GetFrame.Request, response: GetFrame.Response
    ) -> GetFrame.Response:
        try:
            response.image = evidence_message(self._memory.frame(request.record_id))
        except StreamError as error:
            response.message = self._refusal("get_frame", error)
            return response
        response.success = True
        return response

    def _forget(self, request: Forget.Request, response: Forget.Response) -> Forget.Response:
        try:
            what = forget_query(request)
            if not self._pipeline.flush(FLUSH_S):
                raise MemoryFileError(
                    f"{self._memory.path}: some steps are not stored yet (see /diagnostics), so"
                    " nothing was deleted; ask again when they are stored"
                )
            forgotten = self._memory.forget(what, dry_run=request.dry_run)
        except StreamError as error:
            response.message = self._refusal("forget", error)
            return response
        response.success = True
        response.message = f"{'would forget' if request.dry_run else 'forgot'} {forgotten}"
        response.records = forgotten.records
        response.pictures = forgotten.pictures
        response.freed_bytes = forgotten.freed_bytes
        response.erased = forgotten.erased
        response.took_ms = forgotten.took_ms
        # The log says how much was deleted, but not what.
        self._node.get_logger().info(f"~/forget: {response.message}")
        return response

    def _refusal(self, service: str, error: StreamError) -> str:
        self._node.get_logger().warning(f"~/{service}: {error}")
        return str(error)
