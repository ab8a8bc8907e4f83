"""The demo: a camera, the node and an audience as three processes over real DDS, and what came of
it as pictures and figures.
"""
