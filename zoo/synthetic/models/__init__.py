"""From a scene description to triangles in the world."""
