"""Transforms, cameras, boxes and voxels; `README.md` in this folder defines axes, units and pixel centres."""
