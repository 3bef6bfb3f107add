"""The published names of PosMLP-Video's parameters, and of the image network that it starts from."""

from collections.abc import Iterator

from posmlp_jax.convert.branches import LINEAR, affine, branch_rows, norm_rows
from posmlp_jax.convert.table import Buffer, Layout, Row, transposed
from posmlp_jax.models.posmlp_video import PosMLPVideo

# Published convolutions are (1, 3, 3), an axis more than ours of single frames.
_FRAME_CONV = Layout(lambda x: x[:, :, 0], lambda x: x[:, :, None]).then(transposed(2, 3, 1, 0))


def posmlp_video_rows(model: PosMLPVideo) -> Iterator[Row | Buffer]:
    """The table of a video model with `block='parallel'`, or of its image form."""
    for number, (conv, norm) in enumerate(zip(model.stem.convs, model.stem.norms, strict=True), start=1):
        yield from affine(f"patch_embed1.proj{number}", conv, _FRAME_CONV)
        yield from norm_rows(f"patch_embed1.norm{number}", norm)
    for level, stage in enumerate(model.stages, start=1):
        if level > 1:
            merging = model.mergings[level - 2]
            yield from affine(f"patch_embed{level}.proj", merging.conv, _FRAME_CONV)
            yield from norm_rows(f"patch_embed{level}.norm", merging.norm)
        for index, block in enumerate(stage.blocks):
            name = f"blocks{level}.{index}"
            if model.config.block == "parallel":
                yield from branch_rows(f"{name}.t_fc.encoder", block.temporal, "fc1", "fc2")
            yield from branch_rows(f"{name}.fc.encoder", block.spatial, "fc1", "fc2")
    yield from norm_rows("norm", model.norm)
    if model.head is not None:
        yield from affine("head", model.head, LINEAR)
