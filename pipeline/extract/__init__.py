"""Stage 2: from prepared clips to a token store."""

from pipeline.extract.coordinator import extract

__all__ = ["extract"]
