"""Everything behind people and things: walls, floors, furniture and their textures."""
