"""How well the watcher watched: matching what it said with what happened, and pictures of both."""
