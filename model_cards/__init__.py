"""The model card template. Cards are rendered from the JSON files of a model folder, never written by hand."""
