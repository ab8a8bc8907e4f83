"""Recall and evidence by service call: answered by reading connections of the memory, whatever the model is busy with."""

from __future__ import annotations

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from stream_vlm.memory.store import Memory
from stream_vlm.stream import StreamError
from stream_vlm_ros.messages import evidence_message, recall_query, record_message
from stream_vlm_ros.srv import GetFrame, Recall


class MemoryServices:
    """`~/recall` and `~/get_frame`."""

    def __init__(self, node: Node, memory: Memory) -> None:
        self._node = node
        self._memory = memory
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(Recall, "~/recall", self._recall, callback_group=group),
            node.create_service(GetFrame, "~/get_frame", self._get_frame, callback_group=group),
        ]

    def destroy(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)

    def _recall(self, request: Recall.Request, response: Recall.Response) -> Recall.Response:
        try:
            result = self._memory.recall(recall_query(request))
        except StreamError as error:
            response.message = self._refusal("recall", error)
            return response
        response.success = True
        response.records = [record_message(record) for record in result.records]
        response.total = result.total
        response.took_ms = result.took_ms
        return response

    def _get_frame(self, request: GetFrame.Request, response: GetFrame.Response) -> GetFrame.Response:
        try:
            response.image = evidence_message(self._memory.frame(request.record_id))
        except StreamError as error:
            response.message = self._refusal("get_frame", error)
            return response
        response.success = True
        return response

    def _refusal(self, service: str, error: StreamError) -> str:
        self._node.get_logger().warning(f"~/{service}: {error}")
        return str(error)
