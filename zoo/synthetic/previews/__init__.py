"""Contact sheets to look at."""
