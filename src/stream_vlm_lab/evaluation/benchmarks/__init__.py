"""Published benchmarks: reads their files, computes their scores, asks a model their questions."""
