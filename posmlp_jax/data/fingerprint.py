"""What tells a data set from another one, as far as that is cheap: for a run that is to go on with the same data."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.source import Source

_NAMED = 5


def fingerprint(source: Source) -> dict:
    """What a source is, as JSON: the number of its examples, its classes, each one's count, and a hash of its files.

    Counts are None where everything would have to be read for them (`LabelledSource.class_counts`), and of images with
    objects, or films with actions, of several classes. Of a source that has nothing of these there are no classes
    either.
    """
    names, counts = (), None
    if isinstance(source, LabelledSource):
        counts = source.class_counts()
        names = source.class_names or [str(label) for label in range(source.num_classes)]
    elif isinstance(source, AnnotatedSource | ActionSource):
        names = source.class_names
    return {
        "examples": len(source),
        "classes": list(names),
        "counts": None if counts is None else [int(count) for count in counts],
        "files": hash_lines(source.identity()),
    }


def hash_lines(lines: Iterable[str]) -> str:
    """A hash of some texts, in their order."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def changes(before: Mapping, now: Mapping) -> Iterator[str]:
    """What is different in a fingerprint of today; nothing where the data are the same.

    Classes come and go, then their counts, then the number of examples; that files are others is only said where
    nothing of that is.
    """
    found = [*_class_changes(before, now)]
    if before["examples"] != now["examples"]:
        found.insert(0, f"{before['examples']} examples -> {now['examples']}")
    if not found and before["classes"] != now["classes"]:
        found.append("the classes are in another order")
    if not found and before["files"] != now["files"]:
        found.append(
            f"as many examples{' of each class' * bool(now['classes'])}, but other files, by their names or sizes"
        )
    yield from found[: _NAMED + 1]
    if len(found) > _NAMED + 1:
        yield f"{len(found) - _NAMED - 1} more"


def _class_changes(before: Mapping, now: Mapping) -> Iterator[str]:
    old, new = set(before["classes"]), set(now["classes"])
    yield from (f"class '{name}' is gone" for name in before["classes"] if name not in new)
    yield from (f"class '{name}' is new" for name in now["classes"] if name not in old)
    if before["counts"] and now["counts"]:
        today = dict(zip(now["classes"], now["counts"], strict=True))
        for name, count in zip(before["classes"], before["counts"], strict=True):
            if name in today and today[name] != count:
                yield f"'{name}' {count} -> {today[name]}"
