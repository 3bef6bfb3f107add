"""What each part of the recipe does to a short run: `python -m benchmarks.recipe_ablation [--seeds=0,1] [overrides]`.

Trains `configs/cifar10_recipe.py` with everything on, and again with one part off at a time, each as its own process,
and prints a table of test top-1. Runs that are already in `runs/recipe_ablation/` are not repeated.
"""

from pathlib import Path

from benchmarks.runs import train_to_end
from posmlp_jax.command_line import CommandParser, run_program

CONFIG = "configs/cifar10_recipe.py"
OFF = {
    "everything on": [],
    "no mixup, no CutMix": ["--config.mixing.probability=0.0"],
    "no RandAugment": ["--config.data.randaugment="],
    "no random erasing": ["--config.data.erasing_probability=0.0"],
    "no drop path": ["--config.model.drop_path=0.0"],
    "crops and flips alone": [
        "--config.mixing.probability=0.0",
        "--config.data.randaugment=",
        "--config.data.erasing_probability=0.0",
        "--config.model.drop_path=0.0",
        "--config.model.dropout=0.0",
    ],
}


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.recipe_ablation", __doc__)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--directory", type=Path, default=Path("runs/recipe_ablation"))
    options, overrides = parser.parse_known_args(arguments)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(f"| recipe | seeds {options.seeds}: weights | moving average |\n| --- | --- | --- |")
    for name, off in OFF.items():
        results = []
        for seed in seeds:
            workdir = options.directory / f"{name.replace(',', '').replace(' ', '_')}_{seed}"
            results.append(train_to_end(CONFIG, workdir, [f"--config.seed={seed}", *off, *overrides]))
        cells = (" / ".join(f"{result[split]:.2f}" for result in results) for split in ("eval", "ema"))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_program(main, None)
