"""Evaluation of trained models: scores, metrics, attention maps."""

from star.evaluate.scores import Scores, fuse, load_scores, save_scores
from star.evaluate.scoring import evaluate_run, score

__all__ = ["Scores", "evaluate_run", "fuse", "load_scores", "save_scores", "score"]
