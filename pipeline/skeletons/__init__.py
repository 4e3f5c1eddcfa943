"""Pose files -> `Skeleton`: persons over all frames of a video."""

from pipeline.skeletons.mat import read_penn_label
from pipeline.skeletons.ntu import read_ntu_skeleton
from pipeline.skeletons.of_video import persons_of_video
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.read import SUFFIXES, read_skeleton, topology_of
from pipeline.skeletons.skeleton import Skeleton

__all__ = [
    "SUFFIXES",
    "Skeleton",
    "choose_persons",
    "persons_of_video",
    "read_ntu_skeleton",
    "read_penn_label",
    "read_skeleton",
    "topology_of",
]
