"""Training recipes, one per file; run with `zoo train RECIPE`."""
