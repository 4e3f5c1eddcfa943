"""Pose files -> `Skeleton`: persons over all frames of a video."""

from pipeline.skeletons.coco import read_coco
from pipeline.skeletons.mat import read_jhmdb, read_penn_label
from pipeline.skeletons.ntu import read_ntu_skeleton
from pipeline.skeletons.openpose import read_pose_file, read_pose_folder
from pipeline.skeletons.own_format import read_own
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.read import SUFFIXES, read_skeleton, topology_of
from pipeline.skeletons.skeleton import Skeleton

__all__ = [
    "SUFFIXES",
    "Skeleton",
    "choose_persons",
    "read_coco",
    "read_jhmdb",
    "read_ntu_skeleton",
    "read_own",
    "read_penn_label",
    "read_pose_file",
    "read_pose_folder",
    "read_skeleton",
    "topology_of",
]
