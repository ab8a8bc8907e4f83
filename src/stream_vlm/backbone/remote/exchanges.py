"""Runs exchanges with a server side by side: each asks, waits for the reply, and may ask again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from stream_vlm.backbone.remote.transport import ServerAway
from stream_vlm.types import StreamError

Reply = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """A request that an exchange makes.

    Attributes:
        body: gives the fields of the request; its argument says whether pictures that the server
            should have already are sent by name alone.
        stage: what the request is for: states, words or a second look.
        session: names the stream that the request belongs to.
    """

    body: Callable[[bool], dict[str, Any]]
    stage: str = field(default="states")
    session: str = ""


Result = TypeVar("Result")
Exchange = Generator[Ask, Reply, Result]
"""Yields requests, gets the reply of each, and returns its result."""

Submit = Callable[[Ask, float], "Future[Reply]"]
"""Begins a request that ends by the given time (`time.monotonic`)."""


def usage_of(reply: Reply) -> tuple[int, int]:
    """(tokens of the prompt, those of them that were cached); 0 where the server does not tell."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return 0, 0
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt = usage.get("prompt_tokens")
    return (prompt if isinstance(prompt, int) else 0, cached if isinstance(cached, int) else 0)


def run_side_by_side(
    exchanges: Sequence[Exchange[Result]], submit: Submit, until: float
) -> list[Result | StreamError]:
    """Run all exchanges to their end on this thread; their requests run side by side.

    Args:
        exchanges: they run on this thread alone, so they need no locks.
        submit: begins a request.
        until: when everything that still waits is given up, in the time of `time.monotonic`.

    Returns:
        For each exchange its result, or the error that ended it.
    """
    results: list[Result | StreamError | None] = [None] * len(exchanges)
    waiting: dict[Future[Reply], int] = {}

    def advance(index: int, advance_one: Callable[[], Ask]) -> None:
        try:
            ask = advance_one()
            waiting[submit(ask, until)] = index
        except StopIteration as end:
            results[index] = end.value
        except StreamError as error:
            results[index] = error

    for index, exchange in enumerate(exchanges):
        advance(index, partial(next, exchange))
    while waiting:
        left = until - time.monotonic()
        done, _ = wait(waiting, timeout=max(0.0, left), return_when=FIRST_COMPLETED)
        if not done:
            break
        for future in done:
            index = waiting.pop(future)
            exchange, error = exchanges[index], future.exception()
            if isinstance(error, StreamError):
                advance(index, partial(exchange.throw, error))
            else:
                advance(index, partial(exchange.send, future.result()))
    for future, index in waiting.items():
        future.cancel()
        exchanges[index].close()
        results[index] = ServerAway(
            "the server did not answer within model.timeout_s; raise it, lower stream.rate_hz, or"
            " use a smaller model"
        )
    return [result for result in results if result is not None]
