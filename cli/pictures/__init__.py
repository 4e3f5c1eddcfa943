"""Pictures that join a model's output with prepared clips."""
