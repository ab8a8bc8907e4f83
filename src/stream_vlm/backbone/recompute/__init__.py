"""Other image-text-to-text models: every tick recomputes a chat with the newest pictures."""
