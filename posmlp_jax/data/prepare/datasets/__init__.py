"""The data sets that `posmlp_jax.data.prepare` can make, by name: a file with a `Builder` for each, and its line here.

What it takes besides stands in `prepare`: `builder` for everything, `videos` and `lists` for videos,
`annotated_images` for images with annotated objects, and `coco_recipe` for those that COCO's JSON describes.
"""

from posmlp_jax.data.prepare.builder import Builder
from posmlp_jax.data.prepare.datasets import (
    cifar10,
    coco2017,
    coco_folder,
    digit_scenes,
    digits,
    image_folder,
    imagenet,
    kinetics400,
    micro_motions,
    moving_digits,
    something_something,
    video_folder,
)

BUILDERS: dict[str, Builder] = {
    "cifar10": cifar10.BUILDER,
    "coco2017": coco2017.BUILDER,
    "coco_folder": coco_folder.BUILDER,
    "digit_scenes": digit_scenes.BUILDER,
    "digits": digits.BUILDER,
    "image_folder": image_folder.BUILDER,
    "imagenet2012": imagenet.BUILDER,
    "kinetics400": kinetics400.BUILDER,
    "micro_motions": micro_motions.BUILDER,
    "moving_digits": moving_digits.BUILDER,
    "something_something_v1": something_something.BUILDER_V1,
    "something_something_v2": something_something.BUILDER_V2,
    "video_folder": video_folder.BUILDER,
}
