"""Transforms, cameras, boxes and voxels; `README.md` in this folder fixes axes, units and pixel centres."""
