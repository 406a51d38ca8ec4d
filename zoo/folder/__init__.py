"""Model folders: catalogue, configuration and its schemas, weights, licences, provenance, model card."""
