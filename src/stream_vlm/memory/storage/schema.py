"""The tables, and the migrations that update a file of an older version.

The comments inside the SQL are stored in the file: `.schema` in any SQLite tool shows the units.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlite_utils import Database

from stream_vlm.memory.storage.indexed_text import indexed_text

APPLICATION_ID = 0x53564C4D
"""Marks the file as a memory ("SVLM") in SQLite's header, for `file` and for `Memory.open`."""


def _v1_first_tables(db: Database) -> None:
    """Create sessions, pictures and records, a full-text index and an R*Tree of places."""
    db.execute("""
        CREATE TABLE session (
            session_id TEXT NOT NULL PRIMARY KEY,
            model_id TEXT NOT NULL,         -- the model that watches in this session
            reason TEXT NOT NULL,           -- why it began: start, clock jump ...
            started_ns INTEGER NOT NULL,    -- ns, clock of the frames: ROS time, bag or video
            wall_started_ns INTEGER NOT NULL -- ns since 1970, the computer's clock
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
            frame_id TEXT NOT NULL,         -- optical frame (REP-103)
            start_ns INTEGER NOT NULL,      -- ns, first frame
            end_ns INTEGER NOT NULL,        -- ns, last frame; equals start_ns for an instant
            text TEXT NOT NULL,             -- what was said, asked, answered or happened
            state TEXT NOT NULL,            -- silence, standby or response; empty for a query
            confidence REAL NOT NULL,       -- 0..1
            event_id TEXT NOT NULL,         -- links an utterance with its event, or empty
            query_id TEXT NOT NULL,         -- links an answer with its query, or empty
            model_id TEXT NOT NULL,
            picture_id INTEGER REFERENCES picture(id),
            pose_frame TEXT,                -- NULL, as x to qw, if the pose at end_ns is unknown
            x REAL, y REAL, z REAL,         -- m
            qx REAL, qy REAL, qz REAL, qw REAL,
            CHECK (end_ns >= start_ns)
        ) STRICT""")
    # One index holds the columns of all filters except place, so that counting and sorting do not
    # read the rows.
    db.execute("CREATE INDEX record_by_kind ON record (kind, start_ns, end_ns, camera)")
    # A record that reaches into a time range starts at most the longest span before it.
    db.execute("CREATE INDEX record_by_span ON record (end_ns - start_ns) WHERE end_ns > start_ns")
    db.execute("CREATE INDEX record_by_event ON record (event_id) WHERE event_id <> ''")
    db.execute("CREATE INDEX record_by_query ON record (query_id) WHERE query_id <> ''")
    db.execute("CREATE INDEX record_by_picture ON record (picture_id) WHERE picture_id IS NOT NULL")
    db.execute("""
        CREATE VIRTUAL TABLE record_text USING fts5 (
            text, content = 'record', content_rowid = 'id', tokenize = 'porter unicode61'
        )""")
    db.execute("CREATE VIRTUAL TABLE record_place USING rtree (id, min_x, max_x, min_y, max_y)")
    # Most rows are silent observations without words. In the full-text index they would lower the
    # BM25 weight of every word.
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
    """Add vectors, summaries, what retention dropped, and an index for the newest records."""
    # record_by_kind is in order of start, this index in order of end. A query for the newest or
    # oldest reads one of them and stops at its limit.
    db.execute("CREATE INDEX record_by_end ON record (kind, end_ns, start_ns, camera)")
    db.execute("""
        CREATE TABLE vector_model (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,             -- the model that made the vectors, as it names itself
            size INTEGER NOT NULL,          -- numbers in each vector
            UNIQUE (name, size)
        ) STRICT""")
    for of in ("record", "picture"):
        # AUTOINCREMENT: a reader that has all vectors up to an id needs only those above it.
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
            tier TEXT NOT NULL CHECK (tier IN ('mid', 'long')) -- of one chunk, or merged
        ) STRICT""")
    db.execute("""
        CREATE TABLE summary_covers (
            summary_id INTEGER NOT NULL REFERENCES summary(record_id) ON DELETE CASCADE,
            -- what it was made from
            record_id INTEGER NOT NULL REFERENCES record(id) ON DELETE CASCADE,
            PRIMARY KEY (summary_id, record_id)
        ) STRICT, WITHOUT ROWID""")
    db.execute("CREATE INDEX summary_covers_by_record ON summary_covers (record_id)")
    db.execute("""
        CREATE TABLE dropped (
            what TEXT NOT NULL PRIMARY KEY, -- records, pictures or summaries
            number INTEGER NOT NULL,        -- dropped by retention since the file was made
            bytes INTEGER NOT NULL,         -- of text, pictures and vectors
            until_ns INTEGER NOT NULL       -- ns, end of the newest dropped one
        ) STRICT""")


def _v3_things(db: Database) -> None:
    """Add the objects that events happened to (tables `thing` and `sighting`)."""
    db.execute("""
        CREATE TABLE thing (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            begun_ns INTEGER NOT NULL       -- ns, end of the event in which it was first seen
        ) STRICT""")
    db.execute("""
        CREATE TABLE sighting (
            record_id INTEGER PRIMARY KEY REFERENCES record(id) ON DELETE CASCADE, -- an event
            thing_id INTEGER NOT NULL REFERENCES thing(id),
            noun TEXT NOT NULL,             -- the kind of object: ball
            words TEXT NOT NULL,            -- its other words, sorted: red
            -- comes, goes, put down, picked up, taken, on, off, seen
            change TEXT NOT NULL,
            confidence REAL NOT NULL        -- 0..1, that it is this object and not another
        ) STRICT""")
    db.execute("CREATE INDEX sighting_by_noun ON sighting (noun, record_id)")
    db.execute("CREATE INDEX sighting_by_thing ON sighting (thing_id, record_id)")
    # An object without events is deleted.
    db.execute("""
        CREATE TRIGGER thing_dropped AFTER DELETE ON sighting
        WHEN NOT EXISTS (SELECT 1 FROM sighting WHERE thing_id = old.thing_id)
        BEGIN DELETE FROM thing WHERE id = old.thing_id; END""")


def _v4_sessions_in_time(db: Database) -> None:
    """Add indices by session for summaries and retention, and count a summary's records."""
    # Two indices, because summaries are kept longer: in a common index they would come before the
    # oldest records.
    db.execute(
        "CREATE INDEX record_by_session ON record (session_id, end_ns) WHERE kind <> 'summary'"
    )
    db.execute(
        "CREATE INDEX summary_by_session ON record (session_id, end_ns) WHERE kind = 'summary'"
    )
    # summary_covers has the records that are still stored; the difference was dropped.
    db.execute("ALTER TABLE summary ADD COLUMN covered INTEGER NOT NULL DEFAULT 0")


def _v5_words_of_every_script(db: Database) -> None:
    """Index the words inside Chinese, Japanese, Korean, Thai and other unspaced sentences."""
    # NULL: the index reads the text itself. Triggers cannot split a sentence, because other SQLite
    # tools that change a row lack the function for it.
    db.execute("ALTER TABLE record ADD COLUMN indexed_text TEXT")
    for name in ("added", "replaced", "replacing", "dropped"):
        db.execute(f"DROP TRIGGER record_text_{name}")
    fill_indexed_text(db)
    db.execute("DROP TABLE record_text")
    db.execute("""
        CREATE VIEW record_words AS
        SELECT id, ifnull(indexed_text, text) AS text FROM record WHERE text <> ''""")
    # Vowel signs and tone marks (M) are part of a word.
    db.execute("""
        CREATE VIRTUAL TABLE record_text USING fts5 (
            text, content = 'record_words', content_rowid = 'id',
            tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
        )""")
    db.execute(
        "INSERT INTO record_text (rowid, text) SELECT id, text FROM record_words ORDER BY id"
    )
    add = (
        "INSERT INTO record_text (rowid, text) VALUES (new.id, ifnull(new.indexed_text, new.text))"
    )
    drop = (
        "INSERT INTO record_text (record_text, rowid, text)"
        " VALUES ('delete', old.id, ifnull(old.indexed_text, old.text))"
    )
    changes = "UPDATE OF text, indexed_text ON record"
    for name, when, action in (
        ("added", "AFTER INSERT ON record WHEN new.text <> ''", add),
        ("replaced", f"AFTER {changes} WHEN new.text <> ''", add),
        ("replacing", f"BEFORE {changes} WHEN old.text <> ''", drop),
        ("dropped", "BEFORE DELETE ON record WHEN old.text <> ''", drop),
    ):
        db.execute(f"CREATE TRIGGER record_text_{name} {when} BEGIN {action}; END")


def fill_indexed_text(db: Database) -> None:
    """Compute again what the full-text index reads, for every record where it is not the text."""
    rows = db.execute(
        "SELECT id, text, indexed_text FROM record WHERE indexed_text IS NOT NULL"
        " OR text GLOB '*[^' || char(1) || '-' || char(127) || ']*'"  # not only ASCII
    ).fetchall()
    changed = [
        (wanted, number)
        for number, text, stored in rows
        if (wanted := indexed_text(text)) != stored
    ]
    db.conn.executemany("UPDATE record SET indexed_text = ? WHERE id = ?", changed)


def _v6_frames_of_poses(db: Database) -> None:
    """Add an index that tells the frames of the poses, and the sessions that have some in each."""
    db.execute(
        "CREATE INDEX record_by_pose_frame ON record (pose_frame, session_id) WHERE pose_frame IS"
        " NOT NULL"
    )


def _v7_bounds_and_copies(db: Database) -> None:
    """Add an index for the first stamp of a session, and the copies that are known."""
    db.execute("CREATE INDEX record_by_session_start ON record (session_id, start_ns)")
    db.execute("""
        CREATE TABLE known_copy (
            path TEXT NOT NULL PRIMARY KEY, -- of a backup, export or report of this memory
            kind TEXT NOT NULL,             -- backup, export, bag or report
            wall_made_ns INTEGER NOT NULL   -- ns since 1970, the computer's clock
        ) STRICT""")


MIGRATIONS: tuple[Callable[[Database], None], ...] = (
    _v1_first_tables,
    _v2_vectors_and_summaries,
    _v3_things,
    _v4_sessions_in_time,
    _v5_words_of_every_script,
    _v6_frames_of_poses,
    _v7_bounds_and_copies,
)
"""Entry n migrates a file from version n to n + 1. Entries are only ever added."""

SCHEMA_VERSION = len(MIGRATIONS)
"""The version this package writes; stored in SQLite's `user_version`."""


def version_of(db: Database) -> int:
    """Return the schema version of the file; 0 for an empty file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: Database) -> None:
    """Migrate the file to `SCHEMA_VERSION` in one transaction; on failure nothing is changed."""
    if version_of(db) >= SCHEMA_VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    with db.conn:  # commits, or rolls back where the block fails
        # Read again under the lock: if two programs open an old file at once, the second has
        # nothing left to do.
        for step in MIGRATIONS[version_of(db) :]:
            step(db)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def ordinary_tables(db: Database) -> list[str]:
    """Return the package's own tables, without those of SQLite, full text and R*Tree."""
    every = [
        (name, sql or "")
        for name, sql in db.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()
    ]
    virtual = [name for name, sql in every if sql.startswith("CREATE VIRTUAL")]
    not_ours = ("sqlite_", *(f"{name}_" for name in virtual))
    return [name for name, _ in every if name not in virtual and not name.startswith(not_ours)]
