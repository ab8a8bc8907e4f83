"""Forgetting from beginning to end: what is meant is marked, deleted in one transaction, and its
space given back bit by bit.
"""

from __future__ import annotations

import time
from dataclasses import replace

from stream_vlm.memory.maintenance.forget import (
    Forget,
    Forgotten,
    copies_beside,
    delete,
    empty_log,
    give_back_pages,
    mark,
)
from stream_vlm.memory.storage.connections import Connections


def count(connections: Connections, what: Forget) -> Forgotten:
    """What forgetting `what` would delete; nothing is."""
    with connections.snapshot() as db:
        marked = mark(db, what)
    return replace(marked, copies=copies_beside(connections.path))


def erase(connections: Connections, what: Forget) -> tuple[Forgotten, int]:
    """Delete `what` in one transaction; what that was, and how many pages the file had before."""
    with connections.writing() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        marked = mark(db, what)
        delete(db)
    return marked, pages


def give_back(connections: Connections, forgotten: Forgotten, pages_before: int) -> Forgotten:
    """Make the file smaller and empty its log, after `erase`; `forgotten` with what came of that."""
    more = True
    while more:
        # Steps that wait to be stored get in here.
        time.sleep(0.001)
        with connections.writer() as db:
            more = give_back_pages(db)
    with connections.writer() as db:
        erased = empty_log(db)
        page_size, pages = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count")
        )
    return replace(
        forgotten,
        freed_bytes=(pages_before - pages) * page_size,
        erased=erased,
        copies=copies_beside(connections.path),
    )
