"""The data stages: videos and skeletons in, prepared clips and then tokens out. Independent of the model."""
