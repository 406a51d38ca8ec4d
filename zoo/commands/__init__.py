"""Commands of `zoo` that need nothing but the package itself, one per file."""
