"""Rays, light, surfaces, air and optics: from triangles to a picture."""
