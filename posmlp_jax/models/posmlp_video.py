"""PosMLP-Video (Figures 1–5 of its paper): PosMLP's windows in space, with relations of positions in time."""

import itertools
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from posmlp_jax.blocks import GatedBranch
from posmlp_jax.downsampling import ConvStem, FullConvMerging, LinearStem
from posmlp_jax.errors import ConfigError
from posmlp_jax.layers import stochastic_depth
from posmlp_jax.models.backbone import Backbone, BackboneConfig, check_choice, check_groups, check_stages
from posmlp_jax.models.stages import Stage, branch_options, drop_path_rates, gate_maker
from posmlp_jax.windows import WindowLayout

STEMS = ("conv2d", "conv3d", "linear")
# What a block does one after the other, each a residual step whose parts are summed.
BLOCKS = {
    "parallel": (("temporal", "spatial"),),
    "temporal_spatial": (("temporal",), ("spatial",)),
    "spatial_temporal": (("spatial",), ("temporal",)),
    "joint": (("joint",),),
    "spatial": (("spatial",),),
}
VERSIONS = ("v1", "v2", "v3", "v4")


@typing.no_type_check  # Fields of wrong types are told of by `BackboneConfig`, while tests run too.
@dataclass(frozen=True, kw_only=True)
class PosMLPVideoConfig(BackboneConfig):
    """What a PosMLP-Video is made of; the defaults are the network of the published SSV1_MLP_S16.yaml.

    Attributes:
      num_frames: T, the length of the clips it takes; 0 for images, which needs block 'spatial'.
      image_size: pixels of a frame, an integer or (height, width). Only `absolute_position` ties a model to it.
      num_classes: logits; 0 for no head.
      widths: channels of each stage, whose maps have half the height and width of those before, and as many time steps.
      depths: blocks in each stage.
      expansion: r_e, how much a branch of a block widens its channels.
      windows: tokens along the side of each stage's windows, an integer or (height, width).
      groups: s of each stage's relations; 1 is the ungrouped form.
      relation: 'lrpe', 'gqpe', 'lrpe_m' or 'dense', as in `PosMLPConfig`; each in 1-D, 2-D or 3-D as a gate needs it.
      covariance, learn_center, gate, split, gate_norm, token_bias: of every gating unit, as in `PosMLPConfig`.
      absolute_position: a learned embedding after the stem, the same in every frame.
      stem: 'conv2d', two 3×3 convolutions of stride 2, frame by frame; 'conv3d', the first of them 3×3×3 and of
        stride 2 in time too, so that the blocks see ⌈T/2⌉ steps; 'linear', patches of 4×4 pixels (Figure 4). All with
        BatchNorm.
      block: how a block mixes (Figure 2). 'parallel': PoTGU, the tokens at one place in all frames, and PoSGU, those of
        a window of one frame, side by side. 'temporal_spatial' and 'spatial_temporal': one after the other, each with
        its own residual. 'joint': PoSTGU, a window in all frames at once. 'spatial': PoSGU alone.
      version: how 'parallel' puts PoTGU and PoSGU together (Figure 5). 'v1', as published: two branches, summed. The
        others have the norm, linear layers and GELU of one branch. 'v2': each unit gets one half of its channels, and
        their outputs are concatenated. 'v3': both get all of them; concatenated. 'v4': both get all of them; summed.
      dropout: after a branch's second linear layer.
      drop_path: stochastic depth of the last block; growing linearly from 0 at the first.
      dtype: compute type, float32 or bfloat16. Parameters, relations, statistics and logits are float32.
      remat: recompute each block's activations in the backward pass, for less memory and a third more compute.
      kernel: what computes a block's branch in windows without masks: 'xla', the compiler's operations; 'pallas', one
        kernel of ours (`posmlp_jax.fused_branch`); 'auto', that kernel in bfloat16 on TPUs, wherever it can.
    """

    num_frames: int = 16
    num_classes: int = 174
    widths: tuple[int, ...] = (72, 144, 288, 576)
    depths: tuple[int, ...] = (3, 4, 9, 3)
    expansion: int = 2
    windows: tuple[int | tuple[int, int], ...] = (14, 14, 14, 7)
    groups: tuple[int, ...] = (8, 16, 32, 64)
    relation: str = "lrpe"
    stem: str = "conv2d"
    block: str = "parallel"
    version: str = "v1"
    drop_path: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_stages(self, "depths", "windows", "groups")
        for field, choices in (("stem", STEMS), ("block", BLOCKS), ("version", VERSIONS)):
            check_choice(field, getattr(self, field), choices)
        if self.num_frames < 0:
            raise ConfigError(f"num_frames {self.num_frames} should be 0 (images) or more")
        if not self.num_frames and (self.block != "spatial" or self.stem == "conv3d"):
            raise ConfigError(
                f"num_frames 0 makes a model of images: block '{self.block}' and stem '{self.stem}' should be "
                "'spatial' and 'conv2d' or 'linear'"
            )
        if self.version != "v1" and self.block != "parallel":
            raise ConfigError(f"version '{self.version}' is one of block 'parallel', and block is '{self.block}'")
        if self.expansion < 1:
            raise ConfigError(f"expansion {self.expansion} should be 1 or more")
        units = 2 if self.version == "v2" else 1
        for stage, (width, groups) in enumerate(zip(self.widths, self.groups, strict=True), start=1):
            check_groups(stage, width, self.expansion, groups, self.split, units)

    @property
    def input_size(self) -> tuple[int, ...]:
        """(frames, height, width), or (height, width) of a model of images."""
        return (self.num_frames, *self.image_size) if self.num_frames else self.image_size

    @property
    def norm_epsilon(self) -> float:
        """As published; the image models have 1e-6."""
        return 1e-5

    @property
    def steps(self) -> int:
        """How many time steps the blocks see."""
        return -(-self.num_frames // 2) if self.stem == "conv3d" else self.num_frames

    @property
    def branches(self) -> tuple[tuple[str, ...], ...]:
        """The names of a block's branches in each of its residual steps; 'paired' is that of versions 'v2' to 'v4'."""
        return BLOCKS[self.block] if self.version == "v1" else (("paired",),)


class PairedGate(nnx.Module):
    """PoTGU and PoSGU on the channels of one branch, in the place of one gating unit (Figure 5, V2 to V4).

    Args:
      channels: of the input.
      make_temporal, make_spatial: `make(channels)` for each `GatingUnit`.
      version: 'v2', 'v3' or 'v4', as in `PosMLPVideoConfig`.
    """

    def __init__(self, channels: int, make_temporal, make_spatial, version: str):
        self.version = version
        shared = channels // 2 if version == "v2" else channels
        self.temporal, self.spatial = make_temporal(shared), make_spatial(shared)
        self.out_channels = self.spatial.out_channels * (1 if version == "v4" else 2)

    @property
    def parts(self) -> int:
        """How many equal parts of its channels the unit takes."""
        return self.temporal.parts * (2 if self.version == "v2" else 1)

    def __call__(
        self, parts: Sequence[Float[Array, "channels batch windows tokens"]], layout: WindowLayout | None = None
    ) -> list[Float[Array, "channels batch windows tokens"]]:
        """What the units give, side by side or summed."""
        half = len(parts) // 2
        first, second = (parts[:half], parts[half:]) if self.version == "v2" else (parts, parts)
        temporal, spatial = self.temporal(first, layout), self.spatial(second, layout)
        if self.version == "v4":
            return [sum(pair) for pair in zip(temporal, spatial, strict=True)]
        return [*temporal, *spatial]


class VideoBlock(nnx.Module):
    """x + DropPath(the branches' sum), as often as the block has steps (Figure 2).

    Args:
      steps: the names of each step's branches.
      branches: `GatedBranch`es by name, which become attributes.
      drop_path: a probability; one draw an example and step.
    """

    def __init__(self, steps: tuple[tuple[str, ...], ...], branches: dict[str, GatedBranch], drop_path: float):
        self.steps = steps
        for name, branch in branches.items():
            setattr(self, name, branch)
        self.drop_path = stochastic_depth(drop_path)

    def __call__(
        self,
        x: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout | None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch windows tokens channels"]:
        """The block's output; with a random `key` the block drops, without one it does not."""
        for number, names in enumerate(self.steps):
            keys = [None] * (len(names) + 1)
            if key is not None:
                keys = jax.random.split(jax.random.fold_in(key, number), len(names) + 1)
            y = sum(getattr(self, name)(x, layout, k) for name, k in zip(names, keys, strict=False))
            x = x + (y if key is None else self.drop_path(y, rngs=keys[-1]))
        return x


class PosMLPVideo(Backbone):
    """The video backbone. `model(clips)` gives logits, `model.features(clips)` the stages' maps (`Backbone`).

    With tables and biases at their start, 0 in every gate as published, a branch adds its last linear layer's bias, 0.
    """

    def __init__(self, config: PosMLPVideoConfig, *, rngs: nnx.Rngs):
        super().__init__(config)
        dtype, epsilon, widths = jnp.dtype(config.dtype), config.norm_epsilon, config.widths
        if config.stem == "linear":
            self.stem = LinearStem(widths[0], 4, "batch", dtype, rngs, epsilon=epsilon)
        else:
            self.stem = ConvStem(
                widths[0],
                "batch",
                dtype,
                rngs,
                pointwise=False,
                halve_time=config.stem == "conv3d",
                epsilon=epsilon,
            )
        height, breadth = config.image_size
        self._add_position((-(-height // 4), -(-breadth // 4)), widths[0], rngs)
        self.mergings = nnx.List(
            FullConvMerging(width, following, dtype, rngs, epsilon=epsilon)
            for width, following in itertools.pairwise(widths)
        )
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        # Maps are kept in windows of single frames, of which PoTGU takes the tokens at one place.
        frames = () if not config.num_frames else (config.steps,) if config.block == "joint" else (1,)
        self.stages = nnx.List(
            Stage(
                [self._block(width, window, groups, next(rates), rngs) for _ in range(depth)],
                (*frames, *window),
                remat=config.remat,
            )
            for width, depth, window, groups in zip(widths, config.depths, config.windows, config.groups, strict=True)
        )
        self._add_head(widths[-1], rngs)

    def _block(self, width: int, window: tuple[int, int], groups: int, drop_path: float, rngs: nnx.Rngs) -> VideoBlock:
        config = self.config
        gates = {
            "temporal": gate_maker(config, (config.steps,), groups, rngs, over_frames=True),
            "spatial": gate_maker(config, window, groups, rngs),
            "joint": gate_maker(config, (config.steps, *window), groups, rngs),
        }
        gates["paired"] = partial(
            PairedGate, make_temporal=gates["temporal"], make_spatial=gates["spatial"], version=config.version
        )
        branches = {
            name: GatedBranch(width, config.expansion, gates[name], **branch_options(config, rngs))
            for names in config.branches
            for name in names
        }
        return VideoBlock(config.branches, branches, drop_path)

    def _check_images(self, images):
        super()._check_images(images)
        if self.config.num_frames and images.shape[1] != self.config.num_frames:
            raise ConfigError(
                f"this model takes clips of its num_frames {self.config.num_frames}, not {images.shape[1]}"
            )
