"""Published training formats, all read into one kind of sample; what cannot be used is counted by
reason, never dropped unseen.
"""
