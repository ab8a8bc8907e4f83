"""The documentation site: every page is reached from its index, and broken links are found."""

import re
from pathlib import Path

import pytest
from build_docs import broken_links
from places import REPOSITORY

PAGE = '<html><body><h1 id="top">Title</h1>{}</body></html>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "index.html").write_text(PAGE.format('<a href="folder/page.html#top">page</a>'))
    (tmp_path / "folder" / "page.html").write_text(
        PAGE.format('<a href="../index.html">index</a><a href="#top">top</a>')
    )
    return tmp_path


def test_a_site_whose_links_lead_somewhere_has_no_broken_ones(site: Path) -> None:
    assert broken_links(site) == []


@pytest.mark.parametrize("link", ["gone.html", "index.html#gone", "#gone", "../top.html"])
def test_a_link_that_leads_nowhere_is_named_with_its_page(site: Path, link: str) -> None:
    (site / "other.html").write_text(PAGE.format(f'<a href="{link}">nowhere</a>'))
    assert broken_links(site) == [f"other.html: {link}"]


def test_a_picture_that_is_not_there_is_a_broken_link(site: Path) -> None:
    (site / "other.html").write_text(PAGE.format('<img src="gone.png">'))
    assert broken_links(site) == ["other.html: gone.png"]


def test_links_to_other_sites_are_not_followed(site: Path) -> None:
    (site / "other.html").write_text(PAGE.format('<a href="https://example.org/gone">out</a>'))
    assert broken_links(site) == []


def test_every_page_is_in_the_index() -> None:
    docs = REPOSITORY / "docs"
    index = (docs / "index.md").read_text()
    listed = re.findall(r"^(?:\w+ <)?([\w-]+)>?$", index, re.MULTILINE)
    pages = {file.stem for file in (*docs.glob("*.md"), *docs.glob("*.rst"))} - {"index"}
    assert sorted(listed) == sorted(pages)
