"""`benchmarks.ablations`: which experiments there are, what seeds say of them, and that no run is made twice."""

import json
import math
import signal

import numpy as np
import pytest

from benchmarks import ablations, runs
from benchmarks.ablation_report import draw, markdown, orderings
from benchmarks.ablation_variants import OPTIONAL, TABLES
from benchmarks.seeds import difference, estimate_noise
from posmlp_jax import training
from posmlp_jax.checkpoints.evaluations import Evaluations
from posmlp_jax.errors import CheckpointError, ConfigError, DataError
from posmlp_jax.paths import as_path
from posmlp_jax.training.config import check_fields, check_values, flatten, plain, resolve_model
from posmlp_jax.training.stopping import Stopped
from posmlp_jax.training.workdir import claim_workdir

VARIANTS = [variant for variants in TABLES.values() for variant in variants]


def noise_of_whole_table(scores: np.ndarray) -> tuple[float, int]:
    """A randomized block design's residual, [variant, seed], by its formula and loops."""
    variants, seeds = scores.shape
    total = 0.0
    for v in range(variants):
        for s in range(seeds):
            total += (scores[v, s] - scores[v].mean() - scores[:, s].mean() + scores.mean()) ** 2
    freedom = (variants - 1) * (seeds - 1)
    return math.sqrt(total / freedom), freedom


def as_scores(table: np.ndarray) -> list[dict[int, float]]:
    return [dict(enumerate(row)) for row in table]


def test_noise_is_a_block_designs_residual():
    table = np.random.default_rng(0).normal(50, 2, (7, 3)) + np.array([0, 5, -3])
    deviation, freedom = noise_of_whole_table(table)
    noise = estimate_noise(as_scores(table))
    assert noise.freedom == freedom == 12
    assert noise.deviation == pytest.approx(deviation, rel=1e-10)
    # What a seed does to all of them alike is no noise, and a lone cell more says nothing.
    assert estimate_noise(as_scores(np.add.outer([1.0, 5, 2], [0.0, 7, 3]))).deviation == pytest.approx(0, abs=1e-9)
    assert estimate_noise([*as_scores(table), {9: 12.0}]).deviation == pytest.approx(deviation, rel=1e-10)
    for few in ([], [{}], [{0: 1.0}], [{0: 1.0, 1: 2.0}], [{0: 1.0}, {0: 3.0}, {1: 2.0}]):
        assert estimate_noise(few) is None


def test_a_difference_of_two_is_the_paired_t_test():
    from scipy import stats

    one, other = np.random.default_rng(1).normal(50, 1, (2, 4))
    change = difference(*as_scores(np.array([one, other])), estimate_noise(as_scores(np.array([one, other]))))
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert change.mean - change.margin == pytest.approx(expected.low)
    assert change.mean + change.margin == pytest.approx(expected.high)
    # Only seeds that both have count; without any noise known nothing is decided.
    change = difference({0: 3.0, 1: 5.0}, {1: 4.0, 2: 90.0}, None)
    assert (change.mean, change.decided, str(change)) == (1.0, False, "+1.00")
    assert difference({0: 1.0}, {1: 1.0}, None) is None


def test_how_often_chance_decides():
    """Of variants that are all the same, one difference in 20."""
    rng = np.random.default_rng(2)
    decided = []
    for _ in range(2000):
        table = as_scores(rng.normal(0, 1, (6, 3)) + rng.normal(0, 3, (1, 3)))
        decided.append(difference(table[0], table[1], estimate_noise(table)).decided)
    assert np.mean(decided) == pytest.approx(0.05, abs=0.015)


def test_every_row_of_the_tables_is_an_experiment():
    counts = {"table1": 10, "table3": 4, "table4": 5, "table6": 4, "table7": 4, "table10": 5, "figure3": 5}
    assert {name: len(variants) for name, variants in TABLES.items()} == counts | {"figure1f": 15, "recipe": 6}
    assert len({variant.run for variant in VARIANTS if variant.base != "recipe"}) == 39
    for variants in TABLES.values():
        labels = [variant.label for variant in variants]
        assert len(set(labels)) == len(labels)
        assert {variant.reference for variant in variants} <= set(labels)
    for name, reference in (
        ("PosMLP GGQPE", "PosMLP SGU"),
        ("gMLP+ConvLHS+GGQPE", "gMLP (original)"),
        ("(1, 1, 1, 1)", "(8, 16, 32, 64)*"),
        ("original", "conv, conv*"),
        ("10 %, GGQPE", "10 %, SGU"),
    ):
        assert next(variant for variant in VARIANTS if variant.label == name).reference == reference


def test_configs_can_be_trained_and_differ_where_their_names_do():
    configs = {}
    for variant in VARIANTS:
        config = variant.config(seed=2, data_dir="somewhere")
        check_fields(config)
        check_values(config)
        resolve_model(config, {"num_classes": 10})
        assert (config.seed, config.data.name, config.data.data_dir) == (2, "cifar10", "somewhere")
        text = json.dumps(plain(config), sort_keys=True)
        assert configs.setdefault(variant.run, text) == text
    assert len(set(configs.values())) == len(configs)


def test_what_a_row_says_is_what_is_trained():
    def fields(table: str, label: str) -> dict:
        variant = next(variant for variant in TABLES[table] if variant.label == label)
        before = dict(flatten(plain(variant.__class__("", variant.base, "").config(0))))
        return {name: value for name, value in flatten(plain(variant.config(0))) if value != before[name]}

    assert fields("table1", "PosMLP SGU") == {"model.relation": "dense", "model.groups": [1, 1]}
    assert fields("table1", "gMLP GGQPE") == {"model.relation": "gqpe", "model.groups": 8}
    assert fields("table4", "(4, 8, 16, 32)") == {"model.groups": [4, 8]}
    assert fields("table6", "ΓΓᵀ ×") == {"model.learn_center": False}
    assert fields("figure3", "e") == {"model.split": False}
    assert fields("figure1f", "25 %, GLRPE") == {
        "model.relation": "lrpe",
        "model.groups": 8,
        "data.train_fraction": 0.25,
    }
    # The paper's rows are on a tenth of the images, and so is that of the figure.
    rows = {
        label: next(variant for variant in VARIANTS if variant.label == label) for label in ("10 %, SGU", "gMLP SGU")
    }
    assert len({variant.run for variant in rows.values()}) == 1
    assert {variant.share for variant in rows.values()} == {0.1} == {rows["gMLP SGU"].config(0).data.train_fraction}
    assert [variant.config(0).data.train_fraction for variant in TABLES["recipe"]] == [1.0] * 6


def test_the_papers_orderings():
    def named(table):
        return {(one.label, other.label) for one, other in orderings(TABLES[table])}

    assert {("gMLP LRPE", "gMLP SGU"), ("PosMLP GGQPE", "PosMLP LRPE")} <= named("table1")
    assert len(named("table1")) == 20  # Of gMLP among themselves, and of PosMLP.
    assert len(named("table3")) == 6
    assert named("figure3") == {("a*", "b"), ("a*", "c"), ("a*", "d"), ("a*", "e"), ("d", "e")}
    assert len(named("table6")) == 6
    assert named("figure1f") == {
        ("50 %, GLRPE", "50 %, SGU"),
        ("50 %, GLRPE", "50 %, GGQPE"),
        ("50 %, GGQPE", "50 %, SGU"),
    }


def test_the_report_says_no_more_than_the_noise_lets_it():
    runs_of = {variant.label: variant.run for variant in TABLES["figure3"]}
    means = {"a*": 60.0, "b": 55.0, "c": 60.1, "d": 62.0, "e": 57.0}
    wiggle = np.random.default_rng(0).normal(0, 0.5, (5, 3))
    scores = {runs_of[label]: dict(enumerate(mean + wiggle[i])) for i, (label, mean) in enumerate(means.items())}
    text = markdown({"figure3": TABLES["figure3"]}, scores)
    assert "Hold, 3 of the paper's 5 orderings: a* > b (+" in text
    assert "The other way round, 1 of the paper's 5 orderings: a* > d (-" in text
    assert "Within the noise, 1 of the paper's 5 orderings: a* > c (" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| b |")]
    assert row.split(" | ")[1:3] == ["", "less"]
    assert "**-" in row
    # Of half of the runs there is half a report.
    part = {run: {0: of_run[0]} for run, of_run in scores.items() if run != runs_of["a*"]}
    text = markdown({"figure3": TABLES["figure3"]}, part)
    assert "a*" not in text
    assert "**" not in text
    assert "± " not in text


def test_runs_are_made_once_and_go_on(tiny_config, tmp_path, capsys, monkeypatch):
    trained = []

    def train(config, workdir):
        """In place of training: the second time it is stopped by Ctrl-C."""
        trained.append(workdir)
        print("compiled the training step")
        workdir.mkdir(parents=True, exist_ok=True)
        claim_workdir(as_path(workdir), config, {})
        if len(trained) == 2:
            raise Stopped(signal.SIGINT, 0)
        return {"eval": {"top1": 0.5 + 0.01 * len(trained), "loss": 1.0}}

    def make_config(variant, seed):
        return tiny_config(length="3 steps", seed=seed)

    monkeypatch.setattr(training, "train", train)
    arguments = ["--only=table6", "--seeds=0,1", f"--workdir={tmp_path}"]
    first = tmp_path / ablations.plan(["table6"], [0])[0][0].run / "seed_0"
    assert ablations.main(arguments, make_config) == 130
    shown = capsys.readouterr()
    assert "8 of 8 runs of 3 steps each are to be trained" in shown.out
    assert f"1/8  {first.parent.name}, seed 0: 51.00 % in 0 s; 0 min left" in shown.out
    assert shown.err.startswith("stopped by SIGINT")
    assert "compiled" not in shown.out
    assert (tmp_path / "log.txt").read_text().startswith("compiled the training step")
    # A part of the runs is a part of the report.
    assert ablations.main([*arguments, "--report"], make_config) == 0
    assert len(trained) == 2
    assert "| αI ✓ | 76.49 |  | 51.00 (1) |  |" in capsys.readouterr().out
    # The first is finished, the second is gone on with.
    assert ablations.main(arguments, make_config) == 0
    assert len(trained) == 2 + 7
    assert trained[1] == trained[2]
    assert "7 of 8 runs" in capsys.readouterr().out
    assert ablations.main(arguments, make_config) == 0
    shown = capsys.readouterr().out
    assert len(trained) == 2 + 7
    assert "to be trained" not in shown
    assert "### Table 6" in shown
    assert (tmp_path / "ablations.md").read_text() in shown
    assert (tmp_path / "ablations.png").read_bytes().startswith(b"\x89PNG")
    # Other settings in the same folder are not taken for these.
    with pytest.raises(CheckpointError, match="holds a different experiment"):
        ablations.main(arguments, lambda variant, seed: tiny_config(length="4 steps", seed=seed))


@pytest.mark.heavy
def test_a_result_is_what_training_ends_with(tiny_config, tmp_path):
    config = tiny_config(length="1 steps", ema_decay=0.0)
    config.optimizer.update(warmup="0 steps", constant="0 steps")
    result = runs.train_once(config, tmp_path / "run", log=tmp_path / "log.txt")
    assert runs.read_result(config, tmp_path / "run") == result
    assert result["eval"] == pytest.approx(Evaluations(tmp_path / "run")[1]["eval"])
    assert "step 1/1" in (tmp_path / "log.txt").read_text()
    # As after a kill between the last checkpoint and the result.
    (tmp_path / "run/result.json").unlink()
    assert runs.train_once(config, tmp_path / "run") == result


def test_pictures_of_all_tables():
    rng = np.random.default_rng(0)
    scores = {variant.run: dict(enumerate(rng.normal(60, 1, 3))) for variant in VARIANTS}
    axes = [axis for axis in draw(TABLES, scores).axes if axis.axison]
    assert len(axes) == len(TABLES)
    lines = axes[list(TABLES).index("figure1f")].get_legend().get_texts()
    assert [line.get_text() for line in lines] == ["SGU", "GLRPE", "GGQPE"]
    assert len(draw({"table4": TABLES["table4"]}, scores).axes) == 1


def test_mistakes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match="there is no table 'tabel4'; did you mean 'table4'"):
        ablations.main(["--only=tabel4"])
    with pytest.raises(ConfigError, match="seeds are 'a'"):
        ablations.main(["--seeds=a"])
    with pytest.raises(ConfigError, match="no finished run"):
        ablations.main(["--report", f"--workdir={tmp_path}/runs"])
    with pytest.raises(DataError, match=r"'cifar10' is not prepared.*python -m posmlp_jax\.data\.prepare cifar10"):
        ablations.main([f"--workdir={tmp_path}/runs"])
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(ablations, "open_source", lambda data, split: None)
    with pytest.raises(CheckpointError, match=r"cannot write to the working directory .*file/runs: Not a directory"):
        ablations.main([f"--workdir={tmp_path}/file/runs", "--only=table4,recipe"])
    assert capsys.readouterr().out.startswith("33 of 33 runs of 1600 steps or 3 epochs each are to be trained")
    assert OPTIONAL == ("recipe",)
