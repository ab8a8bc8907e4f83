"""The loop: it takes the newest frames, asks the model, and turns decisions into utterances and
events.
"""
