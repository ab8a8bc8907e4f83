"""The SQLite file: schema, connections, writer lock, encryption, and the rows of a step."""
