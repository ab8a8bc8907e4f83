"""From pictures to vision tokens: preprocessing, the vision tower and its prefetch."""
