"""Heads map features to task outputs; they are built from the encoder's `out_channels` and `strides`."""
