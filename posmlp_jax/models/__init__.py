"""The model families and their registry."""

from posmlp_jax.models.backbone import parameter_count
from posmlp_jax.models.detectors import create_detector
from posmlp_jax.models.gmlp import GMLP, GMLPConfig
from posmlp_jax.models.posmlp import PosMLP, PosMLPConfig
from posmlp_jax.models.posmlp_video import PosMLPVideo, PosMLPVideoConfig
from posmlp_jax.models.registry import create_model, list_detectors, list_models, model_config

__all__ = [
    "GMLP",
    "GMLPConfig",
    "PosMLP",
    "PosMLPConfig",
    "PosMLPVideo",
    "PosMLPVideoConfig",
    "create_detector",
    "create_model",
    "list_detectors",
    "list_models",
    "model_config",
    "parameter_count",
]
