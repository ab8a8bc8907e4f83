"""The documentation site: `python3 tools/build_docs.py` builds build/docs/site with Sphinx.

A warning of Sphinx is an error, and so is a link inside the site that leads nowhere. Sphinx has an
environment of its own, build/docs/venv.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bootstrap import ROOT, CannotBuild, prepare_venv

PAGES = ROOT / "docs"
HOME = ROOT / "build" / "docs"


class Page(HTMLParser):
    """The links of an HTML page, and the places in it that links can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what `tag` links to and what it can be linked by."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Return the links inside `site` that lead to no file or to no place in one.

    Each is written as `page: link`. Links to other sites are not followed.
    """
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    broken = []
    for file, page in sorted(pages.items()):
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            found = target.is_file() and (
                not parts.fragment
                or target not in pages
                or unquote(parts.fragment) in pages[target].anchors
            )
            if not found:
                broken.append(f"{file.relative_to(site)}: {link}")
    return broken


def build() -> Path:
    """Build the site anew.

    Returns:
        The folder of the site.

    Raises:
        CannotBuild: Sphinx cannot be installed, warns, or fails; or a link is broken.
    """
    venv, _ = prepare_venv(HOME / "venv", [ROOT / "requirements" / "docs.txt"])
    # Pages of modules that are gone would stay, and nothing would link to them.
    for old in (PAGES / "reference", HOME / "doctrees", HOME / "site"):
        shutil.rmtree(old, ignore_errors=True)
    site = HOME / "site"
    sphinx: list[str | Path] = [
        venv / "bin" / "python",
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
    ]
    command = [*sphinx, "--keep-going", "--doctree-dir", HOME / "doctrees", PAGES, site]
    if subprocess.run(command, check=False).returncode != 0:
        raise CannotBuild("Sphinx warns or fails, see above")
    broken = broken_links(site)
    if broken:
        raise CannotBuild("links lead nowhere:\n" + "\n".join(broken))
    return site


def main() -> int:
    """Build the site, or print what stops it."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two shells may build at the same time
        try:
            site = build()
        except CannotBuild as error:
            print(f"Cannot build the documentation: {error}", file=sys.stderr)
            return 1
    print(f"{site.relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
