"""Triangles, and templates of everything that stands or moves in a street; nothing here knows about a scene."""
