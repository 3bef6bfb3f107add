"""Published PyTorch checkpoints into our models, and ours into theirs.

`python -m posmlp_jax.convert --help` is the command; `table` how parameters correspond, `posmlp` and `posmlp_video`
their names, `files` the file types, `architecture` what shapes tell of a model.
"""

from posmlp_jax.lazy import lazily

__all__ = ["Converted", "convert_checkpoint", "export_checkpoint", "load_torch_state_dict", "torch_state_dict"]

__getattr__ = lazily(
    __name__,
    {
        "Converted": "checkpoint",
        "convert_checkpoint": "checkpoint",
        "export_checkpoint": "checkpoint",
        "load_torch_state_dict": "models",
        "torch_state_dict": "models",
    },
)
