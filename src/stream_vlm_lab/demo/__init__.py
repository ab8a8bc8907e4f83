"""The demo: runs a camera, the node and a listener over DDS and draws what happened."""
