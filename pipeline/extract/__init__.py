"""Stage 2: from prepared clips to a token store."""
