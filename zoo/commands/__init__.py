"""The commands of `zoo` that need only the `zoo` package, one per file."""
