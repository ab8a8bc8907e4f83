"""How a room, its people and its things are drawn."""
