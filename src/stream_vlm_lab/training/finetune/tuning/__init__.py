"""Parts of the fine-tuning that `command.py` combines: data, model, state markers, saving."""
