"""The loop: newest frames in, model decisions, utterances and events out."""
