"""Geometry of class manifolds: how many classes a linear readout could tell apart, and why (MFTMA), and cheap measures.

Chung, Lee and Sompolinsky, "Classification and geometry of general perceptual manifolds", Physical Review X 8, 2018;
Cohen, Chung, Lee and Sompolinsky, Nature Communications 11, 2020; Stephenson et al., "Untangling in invariant speech
recognition", NeurIPS 2019.
"""

from hfprobe.manifold.anchors import AnchorStatistics, anchor_statistics
from hfprobe.manifold.centers import CenterStructure, center_structure
from hfprobe.manifold.cone import project_on_cone
from hfprobe.manifold.geometry import ManifoldGeometry, manifold_geometry
from hfprobe.manifold.measures import (
    class_variance,
    explained_variance_dimension,
    participation_ratio,
    separability,
)

__all__ = [
    "AnchorStatistics",
    "CenterStructure",
    "ManifoldGeometry",
    "anchor_statistics",
    "center_structure",
    "class_variance",
    "explained_variance_dimension",
    "manifold_geometry",
    "participation_ratio",
    "project_on_cone",
    "separability",
]
