"""What happens in a room, and when."""
