"""What the robot remembers: one SQLite file that a writer thread fills and any number of readers
ask.
"""
