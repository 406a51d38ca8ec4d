"""The synthetic street world: frames with exact ground truth from a seed, under every condition.

Rendering needs the extra `synthetic` (embreex); importing this package does not.
"""

from __future__ import annotations

from zoo.synthetic.frames.render import iter_frames, render_frame, render_scene

__all__ = ["iter_frames", "render_frame", "render_scene"]
