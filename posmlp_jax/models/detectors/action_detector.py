"""What people in boxes do, by a backbone of clips: the head in use on AVA (SlowFast, Feichtenhofer et al. 2019).

The backbone's last map is averaged over time, RoIAlign cuts each box out of it, the largest value of each channel is
taken, and a linear layer gives the logits of actions, of which a person may do several: their scores are sigmoids.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Shaped

from posmlp_jax.detection.roi_align import roi_align
from posmlp_jax.errors import ConfigError
from posmlp_jax.layers import Dropout, kernel_init
from posmlp_jax.models.backbone import Images
from posmlp_jax.models.detectors.detector import OnBackbone


class ActionHead(nnx.Module):
    """Logits of what was cut out of a map: `classes` on the largest value of each channel."""

    def __init__(self, config, width: int, rngs: nnx.Rngs):
        self.dropout = Dropout(config.box_dropout)
        # Logits are float32 whatever the compute type.
        self.classes = nnx.Linear(width, config.num_classes, kernel_init=kernel_init, rngs=rngs)

    def __call__(
        self, regions: Float[Array, "*boxes side side channels"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "*boxes classes"]:
        """The logits; with `rngs` it drops."""
        most = jnp.max(regions, axis=(-3, -2)).astype(jnp.float32)
        return self.classes(most if rngs is None else self.dropout(most, rngs=rngs.dropout()))


class ActionDetector(OnBackbone):
    """A video backbone that says what is done in boxes: `detector(clips, boxes)`. Its config: `ActionDetectorConfig`.

    Boxes are those of one moment, people's where a detector found them in the frame in the middle, for all of a clip.
    """

    def _make_head(self, width, rngs):
        return ActionHead(self.config, width, rngs)

    def __call__(
        self,
        clips: Images,
        boxes: Shaped[ArrayLike, "..."],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float32[Array, "batch n classes"]:
        """Float32 logits of every action in every box.

        Args:
          clips: float `[B, T, H, W, 3]`, normalised with the data's mean and standard deviation; of any height and
            width.
          boxes: float `[B, N, 4]`, x1, y1, x2, y2 in pixels of the frames. Of an empty one the logits mean nothing.
          train: as `Backbone.features`.
          rngs: likewise; `box_dropout` needs it, too.

        Raises:
          ConfigError: for clips or boxes of other shapes.
        """
        drops = train and self.config.box_dropout > 0
        if drops and rngs is None:
            raise ConfigError("train=True with box_dropout needs rngs=nnx.Rngs(dropout=seed)")
        last = self.features(clips, train=train, rngs=rngs)[-1]
        if jnp.ndim(boxes) != 3 or jnp.shape(boxes)[::2] != (len(clips), 4):
            raise ConfigError(f"boxes should be [batch, n, 4] of {len(clips)} clips, not {jnp.shape(boxes)}")
        # The stride of the map's cells is exact whatever the frames' sides are: those of an odd side reach beyond it.
        align = partial(roi_align, output_size=self.config.box_side, scale=1 / self.config.maps[-1][1])
        regions = jax.vmap(align)(jnp.mean(last.astype(jnp.float32), axis=1), jnp.asarray(boxes))
        return self.head(regions, rngs if drops else None)
