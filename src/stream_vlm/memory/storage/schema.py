"""The tables, and how a file of an older version becomes one of today's.

The comments inside the SQL are stored with it: `.schema` in any SQLite tool shows the units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from sqlite_utils import Database

APPLICATION_ID = 0x53564C4D
"""Marks the file as ours ("SVLM") in SQLite's header, for `file` and for `Memory.open`."""


def _v1_first_tables(db: Database) -> None:
    """Sessions, pictures and records; words through FTS5, places through an R*Tree."""
    db.execute("""
        CREATE TABLE session (
            session_id TEXT NOT NULL PRIMARY KEY,
            model_id TEXT NOT NULL,         -- the model that looks in this session
            reason TEXT NOT NULL,           -- why it began: start, clock jump ...
            started_ns INTEGER NOT NULL,    -- ns on the evidence's clock: ROS time, a bag's clock or a video's timeline
            wall_started_ns INTEGER NOT NULL -- ns since 1970 on the computer's own clock
        ) STRICT""")
    db.execute("""
        CREATE TABLE picture (
            id INTEGER PRIMARY KEY,
            session_id TEXT NOT NULL REFERENCES session(session_id),
            camera TEXT NOT NULL,
            frame_id TEXT NOT NULL,         -- optical frame (REP-103)
            stamp_ns INTEGER NOT NULL,      -- ns, when the picture was taken
            width INTEGER NOT NULL,         -- pixel
            height INTEGER NOT NULL,        -- pixel
            jpeg BLOB NOT NULL,
            UNIQUE (session_id, camera, stamp_ns)
        ) STRICT""")
    db.execute("""
        CREATE TABLE record (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,             -- observation, utterance, event, query or answer
            camera TEXT NOT NULL,           -- empty for a query to every camera
            session_id TEXT NOT NULL REFERENCES session(session_id),
            frame_id TEXT NOT NULL,         -- optical frame of the evidence (REP-103)
            start_ns INTEGER NOT NULL,      -- ns, first evidence
            end_ns INTEGER NOT NULL,        -- ns, last evidence; equals start_ns for an instant
            text TEXT NOT NULL,             -- what was said, asked, answered or happened
            state TEXT NOT NULL,            -- silence, standby or response; empty for a query
            confidence REAL NOT NULL,       -- 0..1
            event_id TEXT NOT NULL,         -- links an utterance with its event, or empty
            query_id TEXT NOT NULL,         -- links an answer with its query, or empty
            model_id TEXT NOT NULL,
            picture_id INTEGER REFERENCES picture(id),
            pose_frame TEXT,                -- NULL, as all of the pose, where it was not known at end_ns
            x REAL, y REAL, z REAL,         -- m
            qx REAL, qy REAL, qz REAL, qw REAL,
            CHECK (end_ns >= start_ns)
        ) STRICT""")
    # One index carries every filter but place, so that counting and sorting never touch the rows
    # themselves.
    db.execute("CREATE INDEX record_by_kind ON record (kind, start_ns, end_ns, camera)")
    # The longest span bounds how far back a record can begin that still reaches into a time range.
    db.execute("CREATE INDEX record_by_span ON record (end_ns - start_ns) WHERE end_ns > start_ns")
    db.execute("CREATE INDEX record_by_event ON record (event_id) WHERE event_id <> ''")
    db.execute("CREATE INDEX record_by_query ON record (query_id) WHERE query_id <> ''")
    db.execute("CREATE INDEX record_by_picture ON record (picture_id) WHERE picture_id IS NOT NULL")
    db.execute("""
        CREATE VIRTUAL TABLE record_text USING fts5 (
            text, content = 'record', content_rowid = 'id', tokenize = 'porter unicode61'
        )""")
    db.execute("CREATE VIRTUAL TABLE record_place USING rtree (id, min_x, max_x, min_y, max_y)")
    # Silent observations are most of the rows and have no words: indexed, they would flatten every
    # word's weight.
    add_text = "INSERT INTO record_text (rowid, text) VALUES (new.id, new.text)"
    drop_text = (
        "INSERT INTO record_text (record_text, rowid, text) VALUES ('delete', old.id, old.text)"
    )
    add_place = "INSERT OR REPLACE INTO record_place VALUES (new.id, new.x, new.x, new.y, new.y)"
    drop_place = "DELETE FROM record_place WHERE id = old.id"
    for name, when, action in (
        ("record_text_added", "AFTER INSERT ON record WHEN new.text <> ''", add_text),
        ("record_text_replaced", "AFTER UPDATE OF text ON record WHEN new.text <> ''", add_text),
        ("record_text_replacing", "BEFORE UPDATE OF text ON record WHEN old.text <> ''", drop_text),
        ("record_text_dropped", "BEFORE DELETE ON record WHEN old.text <> ''", drop_text),
        ("record_place_added", "AFTER INSERT ON record WHEN new.x IS NOT NULL", add_place),
        (
            "record_place_replaced",
            "AFTER UPDATE OF x, y ON record WHEN new.x IS NOT NULL",
            add_place,
        ),
        ("record_place_taken", "AFTER UPDATE OF x, y ON record WHEN new.x IS NULL", drop_place),
        ("record_place_dropped", "AFTER DELETE ON record WHEN old.x IS NOT NULL", drop_place),
    ):
        db.execute(f"CREATE TRIGGER {name} {when} BEGIN {action}; END")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _v2_vectors_and_summaries(db: Database) -> None:
    """Vectors of words and pictures, summaries and what they cover, what retention dropped; the
    newest of a kind without sorting.
    """
    # With record_by_kind for what began first: either order is walked from its end, and a limit
    # ends the walk.
    db.execute("CREATE INDEX record_by_end ON record (kind, end_ns, start_ns, camera)")
    db.execute("""
        CREATE TABLE vector_model (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,             -- the model that made the vectors, as it names itself
            size INTEGER NOT NULL,          -- numbers in each vector
            UNIQUE (name, size)
        ) STRICT""")
    for of in ("record", "picture"):
        # AUTOINCREMENT: a reader that holds all vectors up to one number needs only those above it.
        db.execute(f"""
            CREATE TABLE {of}_vector (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                {of}_id INTEGER NOT NULL REFERENCES {of}(id) ON DELETE CASCADE,
                vector_model_id INTEGER NOT NULL REFERENCES vector_model(id),
                halves BLOB NOT NULL,       -- IEEE 754 binary16, little endian; its length is 1
                UNIQUE ({of}_id, vector_model_id)
            ) STRICT""")
        db.execute(f"CREATE INDEX {of}_vector_by_model ON {of}_vector (vector_model_id)")
    db.execute("""
        CREATE TABLE summary (
            record_id INTEGER PRIMARY KEY REFERENCES record(id) ON DELETE CASCADE,
            tier TEXT NOT NULL CHECK (tier IN ('mid', 'long')) -- of one chunk, or of several merged
        ) STRICT""")
    db.execute("""
        CREATE TABLE summary_covers (
            summary_id INTEGER NOT NULL REFERENCES summary(record_id) ON DELETE CASCADE,
            record_id INTEGER NOT NULL REFERENCES record(id) ON DELETE CASCADE, -- what it was made from
            PRIMARY KEY (summary_id, record_id)
        ) STRICT, WITHOUT ROWID""")
    db.execute("CREATE INDEX summary_covers_by_record ON summary_covers (record_id)")
    db.execute("""
        CREATE TABLE dropped (
            what TEXT NOT NULL PRIMARY KEY, -- records, pictures or summaries
            number INTEGER NOT NULL,        -- how many retention has dropped since the file was made
            bytes INTEGER NOT NULL,         -- of text, pictures and vectors
            until_ns INTEGER NOT NULL       -- ns, end of the newest of them on the evidence's clock
        ) STRICT""")


def _v3_things(db: Database) -> None:
    """Which events happened to one and the same thing."""
    db.execute("""
        CREATE TABLE thing (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            begun_ns INTEGER NOT NULL       -- ns, end of the event in which it was first seen
        ) STRICT""")
    db.execute("""
        CREATE TABLE sighting (
            record_id INTEGER PRIMARY KEY REFERENCES record(id) ON DELETE CASCADE, -- an event
            thing_id INTEGER NOT NULL REFERENCES thing(id),
            noun TEXT NOT NULL,             -- the kind of thing: ball
            words TEXT NOT NULL,            -- what else is said of it, sorted: red
            change TEXT NOT NULL,           -- what happened to it: comes, goes, put down, picked up, taken, on, off, seen
            confidence REAL NOT NULL        -- 0..1, that it is this thing and not another
        ) STRICT""")
    db.execute("CREATE INDEX sighting_by_noun ON sighting (noun, record_id)")
    db.execute("CREATE INDEX sighting_by_thing ON sighting (thing_id, record_id)")
    # A thing of which nothing is remembered any more leaves nothing behind.
    db.execute("""
        CREATE TRIGGER thing_dropped AFTER DELETE ON sighting
        WHEN NOT EXISTS (SELECT 1 FROM sighting WHERE thing_id = old.thing_id)
        BEGIN DELETE FROM thing WHERE id = old.thing_id; END""")


def _v4_sessions_in_time(db: Database) -> None:
    """What a session holds in its own time, for summaries and retention; how many records a summary
    was made from.
    """
    # Two, for summaries are kept longer: the oldest records would have to be looked for behind all
    # of them.
    db.execute(
        "CREATE INDEX record_by_session ON record (session_id, end_ns) WHERE kind <> 'summary'"
    )
    db.execute(
        "CREATE INDEX summary_by_session ON record (session_id, end_ns) WHERE kind = 'summary'"
    )
    # Those of summary_covers are still stored; what is missing there was dropped.
    db.execute("ALTER TABLE summary ADD COLUMN covered INTEGER NOT NULL DEFAULT 0")


MIGRATIONS: tuple[Callable[[Database], None], ...] = (
    _v1_first_tables,
    _v2_vectors_and_summaries,
    _v3_things,
    _v4_sessions_in_time,
)
"""Step n brings a file of version n to version n + 1. Steps are only ever added."""

SCHEMA_VERSION = len(MIGRATIONS)
"""What this package writes; stored in SQLite's `user_version`."""


def version_of(db: Database) -> int:
    """The version the file was written with; 0 for an empty file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(db: Database, kind: Literal["IMMEDIATE", "DEFERRED"]) -> Iterator[None]:
    """One transaction, undone when the block fails: IMMEDIATE to write, DEFERRED for one view of
    all that is read.

    One that writes takes the lock at its start: had it read first, the lock could be refused later
    without any waiting.
    """
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk or a failing one makes SQLite roll back by itself.
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
        raise


def migrate(db: Database) -> None:
    """Bring the file to `SCHEMA_VERSION`, all in one transaction: a step that fails leaves the file
    as it was.
    """
    if version_of(db) >= SCHEMA_VERSION:
        return
    with transaction(db, "IMMEDIATE"):
        # Asked again under the lock: of two programs that open an old file at once, the second
        # finds nothing left to do.
        for step in MIGRATIONS[version_of(db) :]:
            step(db)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def ordinary_tables(db: Database) -> list[str]:
    """The tables that hold rows of ours: not SQLite's own, nor what full text and R*Tree keep
    themselves.
    """
    every = [
        (name, sql or "")
        for name, sql in db.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()
    ]
    virtual = [name for name, sql in every if sql.startswith("CREATE VIRTUAL")]
    not_ours = ("sqlite_", *(f"{name}_" for name in virtual))
    return [name for name, _ in every if name not in virtual and not name.startswith(not_ours)]
