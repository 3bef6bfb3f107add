"""RetinaNet, Mask R-CNN and detectors of actions on any backbone.

Networks, and with `posmlp_jax.detection` what these find in images, or what is done in the boxes of clips.
"""

from posmlp_jax.models.detectors.action_detector import ActionDetector
from posmlp_jax.models.detectors.config import (
    ActionDetectorConfig,
    DetectorConfig,
    MaskRCNNConfig,
    OnBackboneConfig,
    RetinaNetConfig,
)
from posmlp_jax.models.detectors.detector import Detections, Detector, OnBackbone
from posmlp_jax.models.detectors.families import create_detector
from posmlp_jax.models.detectors.mask_rcnn import MaskedDetections, MaskRCNN
from posmlp_jax.models.detectors.retinanet import RetinaNet

__all__ = [
    "ActionDetector",
    "ActionDetectorConfig",
    "Detections",
    "Detector",
    "DetectorConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MaskedDetections",
    "OnBackbone",
    "OnBackboneConfig",
    "RetinaNet",
    "RetinaNetConfig",
    "create_detector",
]
