"""What a trained model keeps at other resolutions: `python -m benchmarks.resolutions WORKDIR … [--scales=1,2]`.

Image size and windows are scaled together, the weights carried over (`posmlp_jax.checkpoints.resizing`), and the run's
evaluation split is evaluated without further training.
"""

import warnings
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from posmlp_jax import from_pretrained
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.tasks.classification.classifier import classifier
from posmlp_jax.training import open_pretrained
from posmlp_jax.training.saved_config import data_config


def scaled_fields(config, scale: float) -> dict:
    """Image size and windows of a model at another scale."""
    fields = {"image_size": tuple(round(side * scale) for side in config.image_size)}
    if hasattr(config, "windows"):
        fields["windows"] = tuple(tuple(round(side * scale) for side in window) for window in config.windows)
    return fields


def top1(model: Backbone, data: ConfigDict) -> float:
    """The share of the evaluation split that the model gets right."""
    classify = classifier(model, data.mean, data.std)
    right = count = 0
    for batch in eval_batches(open_source(data, "eval"), data, model.config.image_size, batch_size=60):
        right += np.sum((classify(batch["image"]).argmax(axis=-1) == batch["label"]) * batch["weight"])
        count += batch["weight"].sum()
    return float(right / count)


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.resolutions", __doc__)
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    parser.add_argument("--scales", default="0.75,1,1.5,2")
    options = parser.parse_args(arguments)
    try:
        scales = [float(scale) for scale in options.scales.split(",")]
    except ValueError as error:
        raise ConfigError(f"scales is '{options.scales}', and should be numbers, as 1,1.5") from error
    print("| run | relation | image size | windows | top-1 |\n| --- | --- | --- | --- | --- |")
    for workdir in options.workdirs:
        pretrained = open_pretrained(workdir)
        data = data_config(pretrained)
        for scale in scales:
            fields = scaled_fields(pretrained.config, scale)
            with warnings.catch_warnings(action="ignore"):  # That dense relations want more training is the question.
                model = from_pretrained(workdir, **fields)
            accuracy = top1(model, data)
            sizes = " | ".join(str(fields.get(name, "")) for name in ("image_size", "windows"))
            print(f"| {workdir} | {pretrained.config.relation} | {sizes} | {100 * accuracy:.1f} % |", flush=True)


if __name__ == "__main__":
    run_program(main, None)
