"""Draws the room, its people and its things."""
