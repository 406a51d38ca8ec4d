"""Encoders: image or points to features, one architecture per file.

Every encoder is an `nn.Module` built from plain keyword-only arguments. It declares `out_channels` and `strides` (input
size over feature size), one entry per level, finest first; a head is built from these two alone.
`forward_features(image)` returns the levels as a list of `(B, out_channels[i], H / strides[i], W / strides[i])`.
"""
