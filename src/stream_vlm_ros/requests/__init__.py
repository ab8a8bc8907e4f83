"""Services and actions: questions, watches and recalls."""
