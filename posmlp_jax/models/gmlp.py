"""gMLP ("Pay Attention to MLPs", Liu et al. 2021), the papers' baseline, with any of our relations in its gate."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.downsampling import LinearStem
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone, BackboneConfig, check_groups
from posmlp_jax.models.stages import Stage, branch_options, drop_path_rates, gate_maker
from posmlp_jax.relations import NEAR_ZERO


@dataclass(frozen=True, kw_only=True)
class GMLPConfig(BackboneConfig):
    """What a gMLP is made of; the defaults are gMLP-S. Fields that `PosMLPConfig` has too mean the same.

    Attributes:
      patch: side of the image patches that become tokens; the whole image is one window.
      width, depth, expansion, groups: of its one stage.
    """

    patch: int = 16
    width: int = 256
    depth: int = 30
    expansion: int = 6
    groups: int = 1
    relation: str = "dense"

    def __post_init__(self):
        super().__post_init__()
        for field in ("patch", "width", "depth", "expansion"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} {getattr(self, field)} should be 1 or more")
        if any(side % self.patch for side in self.image_size):
            raise ConfigError(f"image_size {self.image_size} should be a multiple of patch {self.patch}")
        check_groups(1, self.width, self.expansion, self.groups, self.split)

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens along each side of the image."""
        height, width = self.image_size
        return height // self.patch, width // self.patch

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """Its one map's."""
        return ((self.width, self.patch),)


class GMLP(Backbone):
    """gMLP for images of exactly `image_size`; `features` gives its one map."""

    def __init__(self, config: GMLPConfig, *, rngs: nnx.Rngs):
        super().__init__(config)
        self.stem = LinearStem(config.width, config.patch, None, jnp.dtype(config.dtype), rngs)
        self._add_position(config.grid, config.width, rngs)
        self.mergings = nnx.List([])
        # gMLP starts as a plain MLP, its Token FC near 0 and its bias at 1; other relations need no such b.
        near_zero = config.relation == "dense"
        make_gate = gate_maker(
            config,
            config.grid,
            config.groups,
            rngs,
            dense_stddev=NEAR_ZERO,
            bias_init=1.0 if near_zero else 0.0,
        )
        blocks = [
            GatedBlock(config.width, config.expansion, make_gate, drop_path=rate, **branch_options(config, rngs))
            for rate in drop_path_rates(config.drop_path, config.depth)
        ]
        self.stages = nnx.List([Stage(blocks, config.grid, remat=config.remat)])
        self._add_head(config.width, rngs)

    def _check_images(self, images):
        super()._check_images(images)
        if images.shape[1:3] != self.config.image_size:
            raise ConfigError(
                f"this gMLP takes images of its image_size {self.config.image_size}, not {images.shape[1:3]}"
            )
