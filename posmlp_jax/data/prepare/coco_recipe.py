"""From what COCO's JSON files say and where the images lie to a data set."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from posmlp_jax.data.prepare.annotated_images import AnnotatedImage, annotated_recipe
from posmlp_jax.data.prepare.builder import Recipe
from posmlp_jax.data.prepare.coco_images import Store, check_found, check_image
from posmlp_jax.data.prepare.coco_json import Instances
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class CocoSplit:
    """A split's JSON, and where its images are.

    Attributes:
      instances: the JSON.
      store: has the images.
      folders: of the store, in which they are looked for, in this order.
      place: of the images, in words.
    """

    instances: Instances
    store: Store
    folders: Sequence[str]
    place: str


def coco_recipe(
    name: str, splits: Mapping[str, CocoSplit], *, check_first: bool, description: str, homepage: str = ""
) -> Recipe:
    """The recipe of a data set with COCO's annotations.

    Args:
      name: the data set's name.
      splits: by name.
      check_first: read all images before anything is written. Otherwise each is checked when it is written.
      description: one paragraph.
      homepage: where the images come from.

    Raises:
      DataError: when categories of two splits contradict each other, or an image is missing or not what its JSON says.
    """
    categories = _all_categories([split.instances for split in splits.values()])
    found = {}
    names, sizes = hashlib.sha256(), hashlib.sha256()
    for split, one in splits.items():
        images = one.instances.images
        found[split] = {image.id: one.store.find(image.file_name, one.folders) for image in images}
        check_found(images, found[split], one.instances.where, one.place)
        names.update(one.instances.digest.encode())
        sizes.update("".join(f"{one.store.sizes[file]}\n" for file in found[split].values()).encode())

    def read(split: str, image: AnnotatedImage) -> bytes:
        store, file = splits[split].store, found[split][image.id]
        data = store.read(file)
        check_image(data, image, store.path(file))
        return data

    if check_first:
        listed = [(split, image) for split, one in splits.items() for image in one.instances.images]
        for split, image in tqdm(listed, desc=f"checking {name}", unit=" images", delay=1, leave=False):
            read(split, image)
    recipe = annotated_recipe(
        name,
        categories,
        {split: one.instances.images for split, one in splits.items()},
        read,
        fingerprint={"sha256": names.hexdigest(), "sizes": sizes.hexdigest()},
        description=description,
        homepage=homepage,
    )
    notes = [note for one in splits.values() for note in one.instances.notes]
    notes += [_summary(split, one.instances) for split, one in splits.items()]
    if "validation" not in splits:
        notes.append(
            "there is no JSON for validation: hold a part back, as --config.data.train_split='train[:90%]' "
            "--config.data.eval_split='train[90%:]'"
        )
    for split in [split for split in splits if split != "train"]:
        if shared := set(found["train"].values()) & set(found[split].values()):
            notes.append(
                f"{split} has {len(shared):,} of train's images, too, {min(shared)} for one: scores will flatter"
            )
    return dataclasses.replace(recipe, notes=[*notes, *_unused(categories, splits)])


def _all_categories(files: Sequence[Instances]) -> list[Category]:
    """The categories of several files, in which an id has one name, and a name one id.

    Within a file a name may be there twice, as where an export has it as a super-category, too.
    """
    names: dict[int, str] = {}
    first_in: dict[int, str] = {}
    for file in files:
        for id, name in file.categories:
            if (other := names.get(id, name)) != name:
                raise DataError(f"the category {id} is '{other}' in {first_in[id]}, and '{name}' in {file.where}")
            others = [other for other, its_name in names.items() if its_name == name]
            if others and id not in names:
                raise DataError(
                    f"the category '{name}' has the id {others[0]} in {first_in[others[0]]}, and {id} in {file.where}: "
                    "export both with the same categories"
                )
        names |= dict(file.categories)
        first_in |= {id: file.where for id, _ in file.categories if id not in first_in}
    return [Category(*each) for each in names.items()]


def _summary(split: str, instances: Instances) -> str:
    objects = [one for image in instances.images for one in image.annotations]
    crowds = sum(one["iscrowd"] for one in objects)
    empty = sum(all(one["iscrowd"] for one in image.annotations) for image in instances.images)
    return (
        f"{split}: images {len(instances.images):,} ({empty:,} without objects), objects {len(objects) - crowds:,}, "
        f"crowds {crowds:,}, categories {len({one['category_id'] for one in objects})}"
    )


def _unused(categories: Sequence[Category], splits: Mapping[str, CocoSplit]) -> list[str]:
    """A line about categories without any object to learn from."""
    train = splits["train"].instances.images
    used = {one["category_id"] for image in train for one in image.annotations if not one["iscrowd"]}
    unused = [f"'{category.name}' (id {category.id})" for category in categories if category.id not in used]
    if not unused:
        return []
    more = f" and {len(unused) - 5} more" if len(unused) > 5 else ""
    return [f"train has no object of {', '.join(unused[:5])}{more}: a model has a class for each all the same"]
