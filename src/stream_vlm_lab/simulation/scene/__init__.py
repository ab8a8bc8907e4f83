"""What is in a room: its things, their colours, and the captions that describe them."""
