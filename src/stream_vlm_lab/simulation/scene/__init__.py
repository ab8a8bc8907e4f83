"""What is in a room: its things, their colours, and the closed language that names them."""
