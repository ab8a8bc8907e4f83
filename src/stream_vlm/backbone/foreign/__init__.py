"""Other image-text-to-text models: the chat around the pictures, and a cache of their own."""
