"""Computes the limits of a stream's context: its policy and the size of its cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy
from stream_vlm.context.segments import tokens_in
from stream_vlm.types import StreamError

_log = logging.getLogger(__name__)

FEWEST_TURNS = 2
"""A context holds the newest turn and one before it."""


class ContextTooLong(StreamError):
    """Not even the shortest context fits into the positions that the model was trained for.

    The message says how many tokens are needed, how many fit, and what to lower.
    """


@dataclass(frozen=True)
class ContextPlan:
    """The limits of a stream's context.

    Attributes:
        policy: the context policy.
        reserve: tokens by which the newest turn may still grow: the longest reply and its end
            marks.
        capacity: slots of the cache: the policy's token budget, and for chunks also the prefix of
            the next chunk, which is prefilled in advance.
        prefix: the most tokens of the prefix, with the lines at the beginning of a chunk.
    """

    policy: ContextPolicy
    reserve: int
    capacity: int
    prefix: int


def plan_context(parts: EngineParts, vision_tokens: int, room: int | None = None) -> ContextPlan:
    """Compute the limits of the context of one camera.

    A context for which the model has too few positions gets as many turns as fit, with a warning.

    Args:
        parts: what all streams of the checkpoint share.
        vision_tokens: vision tokens of a picture of this camera.
        room: the token budget of an earlier plan, whose cache exists already; the new plan does not
            exceed it.

    Raises:
        ContextTooLong: not even two turns fit into the positions that the model was trained for.
    """
    settings, stream, writer = parts.settings, parts.checkpoint.stream, parts.writer
    silent = max(len(marker) for marker in parts.tokens.markers.values())
    # The number of tokens of a turn does not depend on the shape of the grid, so one row is used.
    turn_tokens = (
        tokens_in([*writer.user(0, 0, 1, (1, vision_tokens), is_judged=True), *writer.close(0)])
        + silent
    )
    reserve = (
        settings.decision.max_new_tokens
        + len(parts.tokens.response_end)
        + tokens_in(writer.close(0))
    )
    prefix_tokens = parts.tokens.prefix
    if parts.turns.memory and settings.memory.in_prompt != "off":
        prefix_tokens += (
            len(parts.encode_text(writer.memory_open) + parts.encode_text(writer.memory_close))
            + settings.context.memory_tokens
        )
    trained = parts.max_positions
    # If the model has no room for long utterances, turns leave the context earlier.
    room = trained if room is None else min(room, trained)
    fitting = (trained - prefix_tokens - reserve) // turn_tokens
    if fitting < FEWEST_TURNS:
        raise ContextTooLong(
            f"a context of {FEWEST_TURNS} turns takes"
            f" {prefix_tokens + FEWEST_TURNS * turn_tokens + reserve} tokens, but {parts.model_id}"
            f" was trained for {trained} positions; lower decision.max_new_tokens or"
            " context.memory_tokens, or use another checkpoint"
        )

    def policy_of(most_turns: int | None) -> ContextPolicy:
        return stream.context_policy(
            settings.context,
            settings.stream.tick_rate_hz,
            turn_tokens,
            prefix_tokens,
            reserve,
            room,
            most_turns,
        )

    policy = policy_of(None)
    if policy.most_turns > fitting:
        _log.warning(
            "a context of %d turns takes %d tokens, but %s was trained for %d positions; it keeps"
            " %d turns. Lower context.max_seconds or stream.rate_hz to choose its length yourself",
            policy.most_turns,
            prefix_tokens + policy.most_turns * turn_tokens + reserve,
            parts.model_id,
            trained,
            fitting,
        )
        policy = policy_of(fitting)
    return ContextPlan(
        policy,
        reserve,
        policy.max_tokens + (prefix_tokens if isinstance(policy, ChunkedPolicy) else 0),
        prefix_tokens,
    )


def check_smallest_context(parts: EngineParts) -> None:
    """Check before a run that a context fits the model's positions, with its smallest picture.

    Raises:
        ContextTooLong: not even two turns fit.
    """
    plan_context(parts, parts.checkpoint.pictures.fewest_tokens)
