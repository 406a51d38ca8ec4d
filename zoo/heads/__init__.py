"""Heads map features to the output of a task; they are built from the encoder's `out_channels` and `strides`."""
