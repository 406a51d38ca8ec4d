"""The card template; cards are rendered from a model folder's JSON files, never written by hand."""
