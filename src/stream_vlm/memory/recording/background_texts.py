"""Texts that the running model writes between its steps: summaries and captions take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class BackgroundWriter(Protocol):
    """Writes one text after the other in slices; it belongs to the model's thread."""

    @property
    def has_work(self) -> bool:
        """Whether there is something to write; any thread may ask."""
        ...

    def listen(self, on_work: Callable[[], None]) -> None:
        """Call `on_work` when there is new work that did not come from a step."""
        ...

    def advance(self) -> bool:
        """Do the next slice; return whether this finished a text."""
        ...

    def note_step(self) -> None:
        """Count a step, to notice that there is no time between steps."""
        ...

    def stop(self) -> None:
        """Stop writing and free what it used."""
        ...


class BackgroundTexts:
    """Lets several writers take turns, a text each.

    A text that was begun is finished first, so that two texts never need memory together.
    """

    def __init__(self, writers: Sequence[BackgroundWriter]) -> None:
        self._writers = list(writers)
        self._writing: BackgroundWriter | None = None

    @property
    def has_work(self) -> bool:
        """Whether a writer has something to write; any thread may ask."""
        return any(writer.has_work for writer in self._writers)

    def listen(self, on_work: Callable[[], None]) -> None:
        """Call `on_work` when there is new work that did not come from a step."""
        for writer in self._writers:
            writer.listen(on_work)

    def advance(self) -> bool:
        """Do the next slice of the text that is being written, or of the next writer's.

        Returns:
            Whether this finished a text.
        """
        writer = self._writing
        if writer is None or not writer.has_work:
            writer = next((one for one in self._writers if one.has_work), None)
        if writer is None:
            return False
        self._writing = writer
        finished = writer.advance()
        if finished or not writer.has_work:
            self._writing = None
            # The writer that was just served comes last.
            self._writers.remove(writer)
            self._writers.append(writer)
        return finished

    def note_step(self) -> None:
        """Count a step, to notice that there is no time between steps."""
        for writer in self._writers:
            writer.note_step()

    def stop(self) -> None:
        """Stop all writers and free what they used."""
        for writer in self._writers:
            writer.stop()
