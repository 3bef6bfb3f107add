"""The data sets that `posmlp_jax.data.prepare` can make, by name: a file with a `Builder` for each, and its line here.

What it takes besides stands in `prepare`: `builder` for everything, `videos` and `lists` for videos,
`annotated_images` for images with annotated objects, `coco_recipe` for those that COCO's JSON describes, and
`micro_clips`, `clip_tables`, `coded_clips`, `clip_frames` and `spreadsheets` for micro-expressions.
"""

from posmlp_jax.data.prepare.builder import Builder
from posmlp_jax.data.prepare.datasets import (
    acting_digits,
    casme2,
    cifar10,
    coco2017,
    coco_folder,
    digit_scenes,
    digits,
    image_folder,
    imagenet,
    kinetics400,
    megc2019,
    micro_motions,
    moving_digits,
    samm,
    smic_hs,
    something_something,
    video_folder,
)

BUILDERS: dict[str, Builder] = {
    "acting_digits": acting_digits.BUILDER,
    "casme2": casme2.BUILDER,
    "casme2_five": casme2.BUILDER_FIVE,
    "cifar10": cifar10.BUILDER,
    "coco2017": coco2017.BUILDER,
    "coco_folder": coco_folder.BUILDER,
    "digit_scenes": digit_scenes.BUILDER,
    "digits": digits.BUILDER,
    "image_folder": image_folder.BUILDER,
    "imagenet2012": imagenet.BUILDER,
    "kinetics400": kinetics400.BUILDER,
    "megc2019": megc2019.BUILDER,
    "micro_motions": micro_motions.BUILDER,
    "moving_digits": moving_digits.BUILDER,
    "samm": samm.BUILDER,
    "samm_five": samm.BUILDER_FIVE,
    "smic_hs": smic_hs.BUILDER,
    "something_something_v1": something_something.BUILDER_V1,
    "something_something_v2": something_something.BUILDER_V2,
    "video_folder": video_folder.BUILDER,
}
