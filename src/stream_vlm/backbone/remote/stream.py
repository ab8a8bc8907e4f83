"""The chat of one camera: pictures go in, judgements come out, and old pictures leave at once."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_vlm.backbone.remote.conversation import KEPT_SHARE, Asked, Conversation, Said, Seen
from stream_vlm.backbone.remote.exchanges import Exchange
from stream_vlm.backbone.remote.judging import TickContext, answered, judged, word_fields
from stream_vlm.backbone.remote.pictures import picture_to_send
from stream_vlm.backbone.remote.probe import Abilities
from stream_vlm.backbone.remote.transport import RequestRefused
from stream_vlm.config.field import SettingError
from stream_vlm.config.model_settings import ModelSettings
from stream_vlm.config.settings import Settings
from stream_vlm.context.instructions import system_prompt
from stream_vlm.context.recalled_lines import lines_within_budget
from stream_vlm.context.turn_formats import INSTRUCT
from stream_vlm.context.turn_settings import as_set
from stream_vlm.model_protocol import SILENT, Outcome, Turn
from stream_vlm.types import NANOSECONDS, Decision, StreamError

MOST_SECONDS = 60.0
"""The longest part of the stream in the context if `context.max_seconds` is 0, seconds."""

MOST_PICTURES = 120
"""The most pictures in the context if `context.max_seconds` is 0."""

CHARS_PER_TOKEN = 3
"""Characters of a token, at least, of the texts that are counted without a tokenizer."""

GUESSED_TOKENS = 256
"""Tokens that a tick adds, before the server told the length of two prompts."""

REFUSED_CHAT = frozenset({400, 413, 422})
"""Statuses that say that the chat itself is refused."""

TOO_LONG = re.compile(
    r"context|too (long|many|large)|exceed|at most|maximum|limit|token", re.IGNORECASE
)
"""In the words of servers where a request is too long or has too many pictures."""

SPARE_TOKENS = 128
"""Tokens that are kept free, because the next question may be longer than the last."""


class RemoteStream:
    """The context of one camera at a server.

    Attributes:
        camera: name of the camera.
        session: names the stream to what stands before several servers. It never changes, so all
            requests reach the server that has cached the stream.
        conversation: what the server is told.
        known: names of the pictures that the server has.
    """

    def __init__(self, settings: Settings, camera: str) -> None:
        self.camera = camera
        self._own_time = own_time_marker(settings.model)
        self._most_pictures = sys.maxsize
        self.session = secrets.token_hex(16)
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Clear the context."""
        self.conversation = Conversation(
            system_prompt(self._settings.model.system_prompt, self._settings.model.language)
        )
        self.known: set[str] = set()
        self.prompt_tokens = 0
        """The longest prompt of the last tick, tokens, as the server told; 0 if unknown."""
        self._longest_prompt = 0
        self._per_tick = GUESSED_TOKENS
        self._first_ns: int | None = None
        self._reported: dict[str, int] = {}
        self._begins = True

    def prepare(self) -> None:
        """Do nothing: no part of a later request can be made before its picture."""

    def begin(self, turn: Turn, abilities: Abilities) -> RunningTurn:
        """Write the turn's picture into the chat and make the exchanges about it.

        Raises:
            PictureRefused: the picture cannot be sent; the stream is unchanged.
        """
        picture = picture_to_send(
            turn.frame.image, turn.limits.picture_share, self._settings.vision.max_tokens
        )
        self._note_reports(turn)
        self.conversation.time = self._own_time or abilities.time
        first_ns = self._first_ns = (
            turn.frame.stamp_ns if self._first_ns is None else self._first_ns
        )
        longest = self._settings.decision.max_new_tokens
        self._note_growth()
        self._make_room(abilities.max_tokens - longest - SPARE_TOKENS, abilities.max_tokens > 0)
        if self._begins and turn.memory is not None:
            self.conversation.before = list(turn.memory())
        self._begins = False
        second = (turn.frame.stamp_ns - first_ns) / NANOSECONDS
        self.conversation.entries.append(Seen(second, picture))
        if turn.limits.new_tokens is not None:
            longest = min(longest, turn.limits.new_tokens)
        tick = TickContext(
            self.conversation,
            frozenset(self.known) if abilities.keeps_pictures else frozenset(),
            abilities.phrasing,
            first_ns,
            word_fields(self._settings.sampling, longest, logprobs=abilities.phrasing.logprobs),
            self._note_prompt,
            self.session,
        )
        running = RunningTurn(self, turn)
        if turn.query is not None:
            running.exchanges.append(answered(tick, self._question(turn), turn.on_text))
        running.exchanges += [judged(tick, judgement) for judgement in turn.judgements]
        return running

    def _note_prompt(self, tokens: int) -> None:
        self._longest_prompt = max(self._longest_prompt, tokens)

    def _note_growth(self) -> None:
        """Learn from the last two ticks how many tokens a tick adds."""
        before, self.prompt_tokens = self.prompt_tokens, self._longest_prompt
        self._longest_prompt = 0
        if before and self.prompt_tokens > before:
            self._per_tick = self.prompt_tokens - before
        # A tick without a question, or without usage in the reply, adds about as much.
        elif before and not self.prompt_tokens:
            self.prompt_tokens = before + self._per_tick

    def note_refusal(self, refusal: RequestRefused) -> None:
        """Shorten the chat after a request that the server refuses, because it may be too long.

        Where the server's words say so, the chat never gets as long again: most servers do not tell
        the length of their context, nor how many pictures they take.
        """
        number = len(self.conversation.pictures)
        if number and TOO_LONG.search(refusal.reason):
            self._most_pictures = min(self._most_pictures, number)
        self._keep(int(number * KEPT_SHARE))

    def _keep(self, number: int) -> None:
        """Let all but the newest `number` pictures leave; a new chunk begins."""
        left = len(self.conversation.pictures) - number
        self.conversation.drop_oldest(number)
        self.known &= {seen.picture.name for seen in self.conversation.pictures}
        self.prompt_tokens = max(0, self.prompt_tokens - left * self._per_tick)
        self._begins = True

    def _note_reports(self, turn: Turn) -> None:
        """Write what was said since the last turn into the chat.

        The loop decides what is said, after the model wrote it; it tells at the next turn.
        """
        for judgement in turn.judgements:
            name, stamp_ns = judgement.instruction.instruction_id, judgement.reported_ns
            if judgement.reported and stamp_ns > self._reported.get(name, -1):
                self._reported[name] = stamp_ns
                if self.conversation.pictures:
                    self.conversation.entries.append(Said(judgement.reported))

    def _make_room(self, tokens: int, has_limit: bool) -> None:
        """Let the oldest pictures leave, many at once, where the context is full."""
        number = len(self.conversation.pictures)
        longest_s, most = self._settings.context.max_seconds, self._most_pictures
        if not longest_s:
            longest_s, most = MOST_SECONDS, min(most, MOST_PICTURES)
        too_long = has_limit and self.prompt_tokens + self._per_tick > tokens
        too_long = too_long or number >= most
        if number and (too_long or self.conversation.seconds >= longest_s):
            self._keep(int(number * KEPT_SHARE))

    def _question(self, turn: Turn) -> str:
        """The words of the question, after what the memory found about it."""
        assert turn.query is not None
        lines = lines_within_budget(
            turn.query.recalled,
            turn.frame.stamp_ns,
            self._settings.context.memory_tokens,
            lambda line: len(line) // CHARS_PER_TOKEN + 1,
        )
        found = "".join(f"{line}\n" for line in lines)
        return (f"[Video History]\n{found}" if found else "") + turn.query.text


def own_time_marker(chosen: ModelSettings) -> str:
    """The time marker that the settings `chosen` name, or empty.

    Raises:
        SettingError: they change another piece of the turns, which the server writes.
    """
    for written in chosen.turn_pieces:
        if not written.startswith("time="):
            raise SettingError(
                f"model.turn_pieces {written!r}: a server writes turns with the chat template of"
                " its model; only the piece time can be changed"
            )
    return as_set(INSTRUCT, chosen, "a server's model").time if chosen.turn_pieces else ""


@dataclass
class RunningTurn:
    """A turn whose exchanges run.

    Attributes:
        stream: the stream of the camera.
        turn: the turn.
        exchanges: the answer to the question first, if there is one, then the judgements.
    """

    stream: RemoteStream
    turn: Turn
    exchanges: list[Exchange[Decision]] = field(default_factory=list)

    def end(self, results: Sequence[Decision | StreamError]) -> Outcome | StreamError:
        """Take in the results; without all of them the picture leaves the chat again."""
        stream, turn = self.stream, self.turn
        fault = next((result for result in results if isinstance(result, StreamError)), None)
        if fault is not None:
            stream.conversation.entries.pop()
            if isinstance(fault, RequestRefused) and fault.status in REFUSED_CHAT:
                stream.note_refusal(fault)
            return fault
        decisions = [result for result in results if isinstance(result, Decision)]
        if decisions:
            stream.known |= {seen.picture.name for seen in stream.conversation.pictures}
        answer = SILENT
        if turn.query is not None:
            answer = turn.gate(decisions.pop(0))
            if answer.text:
                stream.conversation.entries.append(Asked(turn.query.text, answer.text))
        names = [judgement.instruction.instruction_id for judgement in turn.judgements]
        return Outcome(answer, judged=dict(zip(names, decisions, strict=True)))
