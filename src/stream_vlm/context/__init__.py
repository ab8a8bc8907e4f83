"""What the model sees: typed segments, their positions, the turns they come in and the policies
that decide what stays.
"""
