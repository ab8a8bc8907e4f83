"""Add the rows of an attached memory to the memory, without those that it has already."""

from __future__ import annotations

from sqlite_utils import Database

from stream_vlm.memory.storage.schema import ordinary_tables

NOT_IMPORTED = ("dropped", "known_copy")
"""Tables about their own file, which do not apply to another file."""

SAME = {
    "picture": ("session_id", "camera", "stamp_ns"),
    "record": (
        *("session_id", "kind", "camera", "frame_id", "start_ns", "end_ns", "text", "state"),
        *("event_id", "query_id"),
    ),
    "vector_model": ("name", "size"),
}
"""The columns by which a row is recognised, whatever its number."""


def merge(db: Database) -> tuple[dict[str, int], int]:
    """Add the rows of the attached file `incoming` to `main`, within the caller's transaction.

    Rows get new numbers, and their links follow. A row that is there already is not added again.

    Returns:
        How many rows were added, by table, and how many records were there already.
    """
    tables = [table for table in ordinary_tables(db) if table not in NOT_IMPORTED]
    db.execute("PRAGMA defer_foreign_keys = ON")
    columns = {
        table: [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
        for table in tables
    }
    numbered = [table for table in tables if "id" in columns[table]]
    # Things last: they are recognised by the events that happened to them.
    for table in sorted(numbered, key=lambda table: table == "thing"):
        _number(db, table)
    targets = {table: _targets(db, table) for table in tables}
    added = {}
    for table in tables:
        chosen = [
            f"(SELECT ours FROM temp.map_{target} WHERE theirs = rows.{name})"
            if (target := targets[table].get(name)) is not None
            else f"rows.{name}"
            for name in columns[table]
        ]
        new = (
            f" WHERE (SELECT is_new FROM temp.map_{table} WHERE theirs = rows.id)"
            if table in numbered
            else ""
        )
        added[table] = db.execute(
            f"INSERT OR IGNORE INTO main.{table} ({', '.join(columns[table])})"
            f" SELECT {', '.join(chosen)} FROM incoming.{table} rows{new}"
        ).rowcount
    unused = "id NOT IN (SELECT thing_id FROM main.sighting)"
    added["thing"] -= db.execute(f"DELETE FROM main.thing WHERE {unused}").rowcount
    (there,) = db.execute("SELECT count(*) FROM temp.map_record WHERE NOT is_new").fetchone()
    for table in numbered:
        db.execute(f"DROP TABLE temp.map_{table}")
    return added, int(there)


def _number(db: Database, table: str) -> None:
    """Make the table `map_TABLE`: for each number of theirs one of ours, and whether it is new."""
    db.execute(f"DROP TABLE IF EXISTS temp.map_{table}")
    db.execute(
        f"CREATE TEMP TABLE map_{table} (theirs INTEGER PRIMARY KEY, ours INTEGER, is_new INTEGER)"
    )
    if table == "thing":
        db.execute("""
            INSERT INTO temp.map_thing
            SELECT theirs.thing_id, min(ours.thing_id), 0 FROM incoming.sighting theirs
            JOIN temp.map_record ON theirs.record_id = map_record.theirs AND NOT is_new
            JOIN main.sighting ours ON ours.record_id = map_record.ours GROUP BY 1""")
    elif table in SAME:
        key = ", ".join(SAME[table])
        # The n-th of several equal rows is the n-th of ours.
        rows = (
            f"SELECT id, {key}, row_number() OVER (PARTITION BY {key} ORDER BY id) AS place FROM"
            f" {{}}.{table}"
        )
        known = rows.format("main")
        if "session_id" in SAME[table]:
            known += " WHERE session_id IN (SELECT session_id FROM incoming.session)"
        db.execute(
            f"INSERT INTO temp.map_{table} SELECT theirs.id, ours.id, 0 FROM"
            f" ({rows.format('incoming')}) theirs JOIN ({known}) ours USING ({key}, place)"
        )
    db.execute(
        f"INSERT INTO temp.map_{table} SELECT id, ? + row_number() OVER (ORDER BY id), 1 FROM"
        f" incoming.{table} WHERE id NOT IN (SELECT theirs FROM temp.map_{table})",
        [_highest(db, table)],
    )


def _targets(db: Database, table: str) -> dict[str, str]:
    """Return the numbered table that each column of `table` refers to, itself for its own number.

    A column may refer to one that refers on: `summary_covers.summary_id` to a summary's record.
    """
    found = {}
    for _, name, *_ in db.execute(f"PRAGMA main.table_info({table})"):
        target, column = table, name
        while True:
            links = {
                link[3]: (link[2], link[4])
                for link in db.execute(f"PRAGMA main.foreign_key_list({target})")
            }
            if column not in links:
                break
            target, column = links[column]
        if column == "id":
            found[name] = target
    return found


def _highest(db: Database, table: str) -> int:
    """Return the highest number that `table` has given."""
    given = db.execute("SELECT seq FROM main.sqlite_sequence WHERE name = ?", [table]).fetchone()
    (stored,) = db.execute(f"SELECT ifnull(max(id), 0) FROM main.{table}").fetchone()
    return max(int(stored), int(given[0]) if given else 0)
