"""Upstream, layer weighting, pooling, head, and the ESPnet models made of them."""

FRAMES = "last_frames"  # the pooling that keeps the frames of the last layer
