"""The services and actions: questions, watches and requests to the memory."""
