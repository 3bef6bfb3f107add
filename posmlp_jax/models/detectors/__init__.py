"""RetinaNet and Mask R-CNN on any backbone: networks, and with `posmlp_jax.detection` what these find in images."""

from posmlp_jax.models.detectors.config import DetectorConfig, MaskRCNNConfig, RetinaNetConfig
from posmlp_jax.models.detectors.detector import Detections, Detector
from posmlp_jax.models.detectors.families import create_detector
from posmlp_jax.models.detectors.mask_rcnn import MaskedDetections, MaskRCNN
from posmlp_jax.models.detectors.retinanet import RetinaNet

__all__ = [
    "Detections",
    "Detector",
    "DetectorConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MaskedDetections",
    "RetinaNet",
    "RetinaNetConfig",
    "create_detector",
]
