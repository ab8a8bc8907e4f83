"""The queue of picture queries to the model, without middleware."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_vlm.model_protocol import Model
from stream_vlm_ros.requests.picture_query import (
    MAX_WAITING,
    PictureQuery,
    picture_query_queue,
    serve_picture_query,
)
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue

JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


class ModelWithoutVectors:
    model_id = "no-vectors"


class ModelWithVectors:
    """The vector of a picture is its shape."""

    model_id = "vectors"

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(picture.shape, np.float32)


class ModelOutOfMemory(ModelWithVectors):
    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("out of memory")


def put(queue: RequestQueue[PictureQuery], file: bytes = JPEG) -> list[object]:
    """Put a query; the returned list gets the vector or the failure."""
    results: list[object] = []
    queue.put(
        PictureQuery(
            file=file,
            on_vector=lambda vector, model_id: results.append((vector.tolist(), model_id)),
            on_failure=results.append,
        )
    )
    return results


def serve(queue: RequestQueue[PictureQuery], model: object) -> None:
    serve_picture_query(queue, cast(Model, model))


def test_each_call_serves_only_the_oldest_picture() -> None:
    queue = picture_query_queue()
    first, second = put(queue), put(queue)
    serve(queue, ModelWithVectors())
    assert (first, second) == ([([8.0, 8.0, 3.0], "vectors")], [])
    serve(queue, ModelWithVectors())
    assert second == first
    serve(queue, ModelWithVectors())
    assert len(first) == 1


@pytest.mark.parametrize(
    ("file", "model", "says"),
    [
        (b"", ModelWithVectors(), "like: 0 bytes that are not a picture"),
        (JPEG, ModelWithoutVectors(), "like: no-vectors cannot embed pictures"),
        (JPEG, ModelOutOfMemory(), "like: the model failed: out of memory"),
    ],
)
def test_a_picture_that_cannot_be_embedded_fails_with_the_reason(
    file: bytes, model: object, says: str
) -> None:
    queue = picture_query_queue()
    results, later_results = put(queue, file), put(queue)
    serve(queue, model)
    assert len(results) == 1
    assert says in str(results[0])
    serve(queue, ModelWithVectors())
    assert later_results == [([8.0, 8.0, 3.0], "vectors")]


def test_a_picture_is_refused_if_too_many_wait() -> None:
    queue = picture_query_queue()
    for _ in range(MAX_WAITING):
        put(queue)
    with pytest.raises(RequestError, match=f"{MAX_WAITING} pictures already wait for the model"):
        put(queue)
