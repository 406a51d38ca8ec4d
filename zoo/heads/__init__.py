"""Heads: features to task output, built from an encoder's `out_channels` and `strides`."""
