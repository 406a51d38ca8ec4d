"""Training recipes, one per file; `zoo train RECIPE` runs one."""
