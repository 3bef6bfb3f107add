"""The published names of PosMLP's parameters."""

from collections.abc import Iterator

from posmlp_jax.convert.branches import LINEAR, affine, branch_rows, norm_rows
from posmlp_jax.convert.table import Buffer, Row, transposed
from posmlp_jax.models.posmlp import PosMLP

_CONV = transposed(2, 3, 1, 0)


def posmlp_rows(model: PosMLP) -> Iterator[Row | Buffer]:
    """The table of an image model."""
    for index, (conv, norm) in enumerate(zip(model.stem.convs, model.stem.norms, strict=True)):
        yield from affine(f"patch_embed.projs.{index}", conv, _CONV)
        yield from norm_rows(f"patch_embed.norms.{index}", norm)
    for level, stage in enumerate(model.stages):
        if level:
            merging = model.mergings[level - 1]
            yield from affine(f"levels.{level}.pool.conv", merging, _CONV)
            yield from norm_rows(f"levels.{level}.pool.norm", merging.norm)
        for index, block in enumerate(stage.blocks):
            yield from branch_rows(f"levels.{level}.encoder.{index}", block, "proj_c_e", "proj_c_s")
    yield from norm_rows("norm", model.norm)
    if model.head is not None:
        yield from affine("head", model.head, LINEAR)
