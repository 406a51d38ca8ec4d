"""What a model folder holds and what says so: catalogue, configuration and schemas, weights, licences, card."""
