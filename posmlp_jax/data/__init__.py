"""Data: `open_source` finds the images or videos, `train_batches` and `eval_batches` make batches of them.

An example goes through the rooms `sources` (where it lies), `decoding` (bytes to pixels) and `augment` (pixels to
pixels); `pipeline` leads it, `targets` says what a batch holds besides pixels, and `stream` what comes when. A data set
that has to be made first is a file in `prepare.datasets`; another kind of place, from which examples are read as they
lie, is one in `sources`.
"""

from posmlp_jax.lazy import lazily

__all__ = [
    "ActionSource",
    "AnnotatedSource",
    "Batches",
    "LabelledSource",
    "Labels",
    "Source",
    "SubjectSource",
    "Targets",
    "check_config",
    "check_scales",
    "check_source",
    "eval_batches",
    "evaluation_sizes",
    "known_subjects",
    "open_annotated",
    "open_films",
    "open_source",
    "open_subjects",
    "read_clips",
    "read_subjects",
    "train_batches",
    "training_sizes",
]

__getattr__ = lazily(
    __name__,
    {
        "evaluation_sizes": "canvases",
        "training_sizes": "canvases",
        "check_config": "check",
        "check_scales": "check",
        "check_source": "check",
        "Batches": "loading",
        "eval_batches": "pipeline",
        "train_batches": "pipeline",
        "ActionSource": "sources.films",
        "AnnotatedSource": "sources.annotated",
        "LabelledSource": "sources.labelled",
        "known_subjects": "sources.opening",
        "open_annotated": "sources.opening",
        "open_films": "sources.opening",
        "open_source": "sources.opening",
        "open_subjects": "sources.opening",
        "read_clips": "sources.opening",
        "read_subjects": "sources.opening",
        "Source": "sources.source",
        "SubjectSource": "sources.subjects",
        "Labels": "targets",
        "Targets": "targets",
    },
)
