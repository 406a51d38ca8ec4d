"""Whole frames: every sensor of a rig at one moment, with ground truth."""
