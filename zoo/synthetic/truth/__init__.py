"""Ground truth: labels as annotators draw them, and 3D boxes."""
