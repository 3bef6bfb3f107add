"""Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019) on the device, one λ for a batch or for each part of it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key


@dataclass(frozen=True)
class MixOptions:
    """How batches are mixed, as in timm's `batch` mode.

    Attributes:
      mixup: α of mixup's λ ~ Beta(α, α); 0: no mixup.
      cutmix: α of CutMix's λ; 0: no CutMix.
      probability: that a batch is mixed at all.
      switch_probability: where both are on, that a mixed batch gets CutMix.
      group: how many neighbours in a batch share what is drawn, as a GPU's images do in timm; 0: the whole batch.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    switch_probability: float = 0.5
    group: int = 0

    @property
    def active(self) -> bool:
        """Whether any batch is ever mixed."""
        return self.probability > 0 and (self.mixup > 0 or self.cutmix > 0)


def draw_masks(
    key: Key[Array, ""], batch_size: int, size: tuple[int, int], options: MixOptions
) -> Float[Array, "groups {size[0]} {size[1]}"]:
    """`draw_mask` for each group of a batch. The last may have fewer examples."""
    groups = -(-batch_size // options.group) if options.group else 1
    keys = key[None] if groups == 1 else jax.random.split(key, groups)
    return jax.vmap(lambda key: draw_mask(key, size, options))(keys)


def draw_mask(key: Key[Array, ""], size: tuple[int, int], options: MixOptions) -> Float[Array, "{size[0]} {size[1]}"]:
    """How much of each pixel an image keeps, the rest being its partner's; `size` is its height and width.

    All λ for mixup, 0 in a box and 1 around it for CutMix, all 1 for a batch that is not mixed. The mean is the weight
    of the image's own label: exactly so for CutMix too, whose box the border may have cut.
    """
    mixed_key, switch_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 5)
    mask = jnp.ones(size)
    if options.mixup > 0:
        mask = jnp.full(size, jax.random.beta(mixup_key, options.mixup, options.mixup))
    if options.cutmix > 0:
        share = jax.random.beta(cutmix_key, options.cutmix, options.cutmix)
        switch = options.switch_probability if options.mixup > 0 else 1.0
        mask = jnp.where(jax.random.bernoulli(switch_key, switch), 1.0 - draw_box(box_key, size, 1 - share), mask)
    return jnp.where(jax.random.bernoulli(mixed_key, options.probability), mask, 1.0)


def draw_box(
    key: Key[Array, ""], size: tuple[int, int], area: Float[ArrayLike, ""]
) -> Float[Array, "{size[0]} {size[1]}"]:
    """1 in a box of the image's shape, `area` of its size before the border cuts it, centred anywhere; 0 elsewhere."""
    inside = []
    for axis_key, side in zip(jax.random.split(key), size, strict=True):
        half = (side * jnp.sqrt(area)).astype(jnp.int32) // 2
        centre = jax.random.randint(axis_key, (), 0, side)
        places = jnp.arange(side)
        inside.append((places >= centre - half) & (places < centre + half))
    return (inside[0][:, None] & inside[1][None, :]).astype(jnp.float32)


def mix(
    images: Float[ArrayLike, "batch *frames height width 3"],
    targets: Float[ArrayLike, "batch classes"],
    mask: Float[ArrayLike, "height width"] | Float[ArrayLike, "batch height width"],
) -> tuple[Float[Array, "batch *frames height width 3"], Float[Array, "batch classes"]]:
    """Mixes each image or clip and its target with its neighbour's in the batch, 0 with 1, 2 with 3 and so on.

    A shuffled batch has no order, so neighbours are as good as any pairs, and they lie on the same device. All
    frames of a clip have the same mask.

    Args:
      images: images or clips, an even number of them.
      targets: each summing to 1.
      mask: from `draw_mask`, or one for each example.
    """
    own = jnp.mean(mask, axis=(-2, -1))[..., None]
    pixels = mask[..., None]
    if mask.ndim == 3 and images.ndim == 5:
        pixels = pixels[:, None]
    mixed = images * pixels + _partners(images) * (1 - pixels)
    return mixed, targets * own + _partners(targets) * (1 - own)


def _partners(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.flip(x.reshape(-1, 2, *x.shape[1:]), axis=1).reshape(x.shape)
