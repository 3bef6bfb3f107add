"""Published parameters into a model, and a model's under the published names."""

from collections.abc import Iterator, Mapping

import numpy as np
from flax import nnx

from posmlp_jax.convert.posmlp import posmlp_rows
from posmlp_jax.convert.posmlp_video import posmlp_video_rows
from posmlp_jax.convert.table import Buffer, Row, fill, publish
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.models.posmlp import PosMLP
from posmlp_jax.models.posmlp_video import PosMLPVideo

_TABLES = {PosMLP: posmlp_rows, PosMLPVideo: posmlp_video_rows}
# What a published model can have, of the options that change which parameters there are.
_PUBLISHED = {
    "stem": ("conv", "conv2d"),
    "merge": ("conv",),
    "block": ("parallel", "spatial"),
    "version": ("v1",),
    "absolute_position": (False,),
    "shift_windows": (False,),
}


def load_torch_state_dict(model: Backbone, state_dict: Mapping[str, np.ndarray]) -> Backbone:
    """The model with published parameters; `model` itself stays as it is.

    Args:
      model: of the published model's architecture.
      state_dict: published names to arrays, or to PyTorch tensors. Index buffers and counters are passed over.

    Raises:
      CheckpointError: lists all parameters that are missing, left over, or of another shape; or the model has what no
        published one has.
    """
    loaded = nnx.clone(model)
    fill(_rows(loaded), state_dict)
    return loaded


def torch_state_dict(model: Backbone) -> dict[str, np.ndarray]:
    """The model's parameters under the published names: `load_torch_state_dict`'s inverse.

    What the published code stores without using it, the bias of a model with `token_bias=False`, is 0. Its index
    buffers are there as it computes them, and BatchNorm's counters are 0: `load_state_dict(…, strict=True)` asks for
    all of them. Options without parameters (`gate`, for one) are not in a state dict: `load_torch_state_dict` needs the
    same model.

    Raises:
      CheckpointError: if the published code has no place for what the model has: parts that no published model has,
        or the isotropic form with α other than 1.
    """
    return publish(_rows(model))


def published_groups(model: Backbone) -> tuple[str, ...]:
    """Where the published code looks for the parameters in a .pth file.

    That of images takes 'state_dict_ema' as `pretrained` of its model, and 'state_dict' where it evaluates without
    `--model-ema`. That of videos takes 'model_state'; the network of images that it starts from is a state dict itself.
    """
    if isinstance(model, PosMLPVideo):
        return ("model_state",) if model.config.block == "parallel" else ()
    return ("state_dict", "state_dict_ema")


def _rows(model: Backbone) -> Iterator[Row | Buffer]:
    if model.folded:
        raise CheckpointError("a folded model is for inference; convert the one that fold() was called on")
    rows = _TABLES.get(type(model))
    if rows is None:
        raise CheckpointError(f"there are no published checkpoints of a {type(model).__name__}")
    for option, published in _PUBLISHED.items():
        value = getattr(model.config, option, published[0])
        if value not in published:
            raise CheckpointError(f"no published checkpoint has {option}={value!r}, which this model has")
    return rows(model)
