"""The data sets that `posmlp_jax.data.prepare` can make, by name."""

from posmlp_jax.data.builders import cifar10, digits, image_folder, imagenet
from posmlp_jax.data.builders.base import Builder

BUILDERS: dict[str, Builder] = {
    "cifar10": cifar10.BUILDER,
    "digits": digits.BUILDER,
    "image_folder": image_folder.BUILDER,
    "imagenet2012": imagenet.BUILDER,
}
