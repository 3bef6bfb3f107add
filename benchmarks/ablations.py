"""Do the paper's comparisons hold for small networks on CIFAR-10? `python -m benchmarks.ablations [--data_dir=DIR]`.

Trains every row of Tables 1, 3, 4, 6, 7 and 10 and of Figure 3, with a PosMLP of two stages and a gMLP of as many
tokens, and for Figure 1 (f) a gMLP with SGU, GLRPE and GGQPE on 5 to 100 % of the images: each with three seeds, rows
that are the same network once, and all of them on as many images as the others. A run that was stopped or killed goes
on with the same command. At the end, or by `--report` at any time, table and picture are in the working directory.

`--only=table4,figure3` are some of them; `--only=recipe`, which is left out otherwise, is configs/cifar10_recipe.py
with one part off at a time.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
from ml_collections import ConfigDict

from benchmarks.ablation_report import draw, markdown
from benchmarks.ablation_variants import OPTIONAL, TABLES, Variant
from benchmarks.runs import read_result, train_once
from benchmarks.seeds import Scores, read_seeds
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import open_source
from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.figures import save_figure
from posmlp_jax.paths import as_path
from posmlp_jax.training.stopping import RunEnded
from posmlp_jax.writing import atomic_write, writing_to

# Of a variant with a seed.
MakeConfig = Callable[[Variant, int], ConfigDict]


def plan(tables: Sequence[str], seeds: Sequence[int]) -> list[tuple[Variant, int]]:
    """The runs that some tables take, each once; those of the first seed come first."""
    variants = {variant.run: variant for table in tables for variant in TABLES[table]}
    return [(variant, seed) for seed in seeds for variant in variants.values()]


def folder(workdir: Path, variant: Variant, seed: int) -> Path:
    """The working directory of a run."""
    return workdir / variant.run / f"seed_{seed}"


def train_all(runs: Sequence[tuple[Variant, int]], make_config: MakeConfig, workdir: Path) -> None:
    """Trains what is not finished, one after the other, and says how far it is."""
    configs = [(variant, seed, make_config(variant, seed)) for variant, seed in runs]
    left = [run for run in configs if read_result(run[2], folder(workdir, *run[:2])) is None]
    if not left:
        return
    # What is wrong with the data shows before anything is written.
    for split in ("train", "eval"):
        open_source(left[0][2].data, split)
    lengths = " or ".join(dict.fromkeys(config.length for *_, config in left))
    print(f"{len(left)} of {len(runs)} runs of {lengths} each are to be trained; they are in {workdir}")
    with writing_to(as_path(workdir)):
        workdir.mkdir(parents=True, exist_ok=True)
    whole = []
    for done, (variant, seed, config) in enumerate(left, 1):
        run, began = folder(workdir, variant, seed), time.perf_counter()
        anew = not run.exists()
        result = train_once(config, run, log=workdir / "log.txt")
        seconds = time.perf_counter() - began
        # What is left of a run that was stopped says little of the others.
        whole += [seconds] if anew else []
        rest = f"; {_duration(sum(whole) / len(whole) * (len(left) - done))} left" if whole else ""
        top1 = 100 * result["eval"]["top1"]
        print(f"{done}/{len(left)}  {variant.run}, seed {seed}: {top1:.2f} % in {seconds:.0f} s{rest}")


def read_scores(
    tables: Sequence[str], seeds: Sequence[int], make_config: MakeConfig, workdir: Path
) -> dict[str, Scores]:
    """Top-1 in % by `Variant.run` and seed, of all runs that are finished."""
    scores = {}
    for variant, seed in plan(tables, seeds):
        result = read_result(make_config(variant, seed), folder(workdir, variant, seed))
        if result is not None:
            scores.setdefault(variant.run, {})[seed] = 100 * result["eval"]["top1"]
    return scores


def write_report(tables: Sequence[str], scores: dict[str, Scores], workdir: Path) -> None:
    """Prints the tables, and writes them and the picture to the working directory."""
    text = markdown({table: TABLES[table] for table in tables}, scores)
    print(f"\n{text}")
    with writing_to(as_path(workdir)):
        atomic_write(as_path(workdir) / "ablations.md", text)
    print(f"wrote {workdir / 'ablations.md'}")
    save_figure(draw({table: TABLES[table] for table in tables}, scores), workdir / "ablations.png")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _tables(text: str) -> list[str]:
    chosen = text.split(",") if text else [table for table in TABLES if table not in OPTIONAL]
    if unknown := [table for table in chosen if table not in TABLES]:
        raise ConfigError(f"there is no table '{unknown[0]}'; {nearest(unknown[0], TABLES)}")
    return [table for table in TABLES if table in chosen]


def main(arguments: list[str] | None = None, make_config: MakeConfig | None = None) -> int:
    """Trains and reports what the command line asks for; gives the exit code.

    Args:
      arguments: the command line's.
      make_config: the configs of the runs, where they are to be others than the variants' own.
    """
    parser = CommandParser("benchmarks.ablations", __doc__)
    parser.add_argument("--only", default="", metavar="TABLE,…", help=f"some of {', '.join(TABLES)}")
    parser.add_argument("--seeds", default="0,1,2", help="with commas between (0,1,2)")
    parser.add_argument("--data_dir", default="", help="where CIFAR-10 is prepared")
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablations"), help="of all runs (runs/ablations)")
    parser.add_argument("--report", action="store_true", help="table and picture of what is there, without training")
    options = parser.parse_args(arguments)
    tables, seeds = _tables(options.only), read_seeds(options.seeds)
    if make_config is None:

        def make_config(variant: Variant, seed: int) -> ConfigDict:
            return variant.config(seed, options.data_dir)

    # Variants differ from seed to seed in nothing that is compiled.
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.fspath(options.workdir.absolute() / "compiled"))
    if not options.report:
        try:
            train_all(plan(tables, seeds), make_config, options.workdir)
        except RunEnded as end:
            print(end, file=sys.stderr)
            return end.exit_code
    scores = read_scores(tables, seeds, make_config, options.workdir)
    if not scores:
        raise ConfigError(f"there is no finished run in {options.workdir} yet; leave --report out to train")
    write_report(tables, scores, options.workdir)
    return 0


if __name__ == "__main__":
    run_program(main, None, "the same command goes on")
