"""Everything behind the people and things: walls, floors, furniture and their textures."""
