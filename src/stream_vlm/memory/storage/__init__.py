"""The SQLite file: schema, connections, lock, encryption, and the form of its rows."""
