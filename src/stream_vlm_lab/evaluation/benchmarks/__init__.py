"""Published benchmarks: their files read, their scores computed as published, and their questions
put to a model online.
"""
