"""What other packages add to the library by entry points: commands of `stream-vlm`, and sources.

stream_vlm_lab is such a package. Its names stand here only so that a user is told what to install
where it is absent.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

COMMANDS = "stream_vlm.commands"
"""Group of commands: an entry's name is the command's, its object a `click.Command`."""

SOURCES = "stream_vlm.sources"
"""Group of sources: an entry's name is what stands before the first colon of a source, such as
`world` in world:7; its object is a `stream_vlm.sources.open_source.SourceFactory`.
"""

LAB_COMMANDS = ("train", "eval", "simulate", "dataset", "verify-trace")
LAB_SOURCES = ("world",)

INSTALL_LAB = "pip install 'stream-vlm[lab]' (in a checkout: pip install '.[lab]')"


def added(group: str) -> dict[str, EntryPoint]:
    """The entry points that installed packages have in `group`, by name; none is imported yet."""
    return {entry.name: entry for entry in entry_points(group=group)}
