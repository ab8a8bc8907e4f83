"""How Sphinx builds the documentation site; `make docs` runs it."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util import logging

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/stream-vlm-ros/stream_vlm_ros"

project = "stream_vlm_ros"
author = "stream_vlm_ros maintainers"
copyright = author
version_line = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "src/stream_vlm/__init__.py").read_text(), re.MULTILINE
)
assert version_line, "src/stream_vlm/__init__.py states no __version__"
release = version_line[1]

extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"stream_vlm_ros {release}"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}
myst_heading_anchors = 4

# Docstrings are Google style with single backticks around code.
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"
# The docstring under a constant is a sentence; napoleon would take what stands before a colon for
# the constant's type.
GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end  # noqa: SLF001

# The reference is read from the sources: no torch and no ROS is needed to build it.
autoapi_dirs = [
    str(ROOT / "src" / name) for name in ("stream_vlm", "stream_vlm_ros", "stream_vlm_lab")
]
autoapi_root = "reference"
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_keep_files = True
autoapi_add_toctree_entry = False

suppress_warnings = [
    "autoapi.python_import_resolution",  # stream_vlm_ros.msg is generated at build time
    "ref.python",  # a field and a class of one name: the signature links to neither
]

OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")
"""A Markdown link from a page to a file of the repository that is no page."""


def link_to_repository(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn links to files outside docs/ into links to the repository.

    A link to a file that does not exist is a warning.
    """

    def on_the_web(link: re.Match[str]) -> str:
        target = ROOT / link[1]
        if not target.exists():
            logging.getLogger(__name__).warning("%s.md links to ../%s: no such file", name, link[1])
        kind = "tree" if target.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{link[1]}{link[2] or ''})"

    source[0] = OUTSIDE.sub(on_the_web, source[0])


def show_own_branch(
    app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Let the sidebar open only the branch of the page.

    With all of the reference in the sidebar, the 300 pages take three times as long to write.
    """
    whole = context["toctree"]
    context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def setup(app: Sphinx) -> None:
    """Connect what this file adds to Sphinx."""
    app.connect("source-read", link_to_repository)
    app.connect("html-page-context", show_own_branch, priority=400)  # the theme's own has 500
