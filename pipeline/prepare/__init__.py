"""Stage 1: from a listing to a folder of prepared clips."""
