"""The data stages: videos and skeletons in, prepared clips and then tokens out. Knows nothing of the model."""
