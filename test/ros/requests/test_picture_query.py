"""Pictures between whoever asks with one and the model, without middleware."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_vlm.model_protocol import Model
from stream_vlm_ros.requests.picture_query import (
    MOST_WAITING,
    PictureQuery,
    picture_query_queue,
    serve_picture_query,
)
from stream_vlm_ros.requests.request_queue import RequestError, RequestQueue

JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


class WithoutVectors:
    model_id = "wordy"


class WithVectors:
    """Gives the shape of a picture for its vector."""

    model_id = "seeing"

    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(picture.shape, np.float32)


class OutOfMemory(WithVectors):
    def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("out of memory")


def put(queue: RequestQueue[PictureQuery], file: bytes = JPEG) -> list[object]:
    """Ask with `file`; what the caller hears comes into the list."""
    heard: list[object] = []
    queue.put(
        PictureQuery(
            file=file,
            on_vector=lambda vector, model_id: heard.append((vector.tolist(), model_id)),
            on_failure=heard.append,
        )
    )
    return heard


def serve(queue: RequestQueue[PictureQuery], model: object) -> None:
    serve_picture_query(queue, cast(Model, model))


def test_each_call_serves_the_oldest_picture_and_no_other() -> None:
    queue = picture_query_queue()
    first, second = put(queue), put(queue)
    serve(queue, WithVectors())
    assert (first, second) == ([([8.0, 8.0, 3.0], "seeing")], [])
    serve(queue, WithVectors())
    assert second == first
    serve(queue, WithVectors())
    assert len(first) == 1


@pytest.mark.parametrize(
    ("file", "model", "says"),
    [
        (b"", WithVectors(), "like: 0 bytes that are not a picture"),
        (JPEG, WithoutVectors(), "like: wordy gives no vectors of pictures"),
        (JPEG, OutOfMemory(), "like: the model failed: out of memory"),
    ],
)
def test_who_asks_with_a_picture_that_cannot_be_compared_hears_why(
    file: bytes, model: object, says: str
) -> None:
    queue = picture_query_queue()
    heard, following = put(queue, file), put(queue)
    serve(queue, model)
    assert len(heard) == 1
    assert says in str(heard[0])
    serve(queue, WithVectors())
    assert following == [([8.0, 8.0, 3.0], "seeing")]


def test_pictures_do_not_pile_up_without_end() -> None:
    queue = picture_query_queue()
    for _ in range(MOST_WAITING):
        put(queue)
    with pytest.raises(RequestError, match=f"{MOST_WAITING} pictures wait for the model already"):
        put(queue)
