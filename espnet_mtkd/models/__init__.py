"""Upstream, layer weighting, pooling, head, and the ESPnet models made of them."""
