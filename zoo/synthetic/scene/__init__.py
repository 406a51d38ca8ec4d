"""The description of a place: plain data drawn from a seed."""
