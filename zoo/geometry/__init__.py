"""Frames, projections and voxels; `README.md` beside this file fixes axes, units and pixel centres."""
