"""The library behind `stream_vlm_ros`: it watches streams, remembers and answers. No ROS.

    from stream_vlm import Memory, Pipeline, load_settings, open_source

The names are imported when they are first used, so `import stream_vlm` alone is quick.
"""

from importlib import import_module

__version__ = "0.1.0"

_PLACES = {
    "Memory": "stream_vlm.memory.memory",
    "Pipeline": "stream_vlm.pipeline",
    "load_settings": "stream_vlm.config.settings",
    "open_source": "stream_vlm.sources",
}
"""Where each public name lives; `__init__.pyi` says the same to type checkers."""

__all__ = ["Memory", "Pipeline", "__version__", "load_settings", "open_source"]


def __getattr__(name: str) -> object:
    """Import the public name `name` (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
