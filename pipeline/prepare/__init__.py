"""Stage 1: from a listing to a folder of prepared clips."""

from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder

__all__ = ["PreparedFolder", "prepare"]
