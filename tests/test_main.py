"""`python main.py` as a process, the way people call it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = [
    "--config=configs/digits.py",
    "--config.data.name=synthetic",
    "--config.data.num_examples=32",
    "--config.data.num_classes=4",
    "--config.model.image_size=16",
    "--config.model.widths=(8,16)",
    "--config.model.depths=(1,1)",
    "--config.model.windows=(4,2)",
    "--config.model.groups=(2,4)",
    "--config.batch_size=16",
    "--config.length=3 steps",
    "--config.optimizer.warmup=1 steps",
    "--config.optimizer.constant=0 steps",
    "--config.devices=1",
]


def run(*arguments: str, cwd=ROOT, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "main.py", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_train_then_evaluate(tmp_path):
    trained = run(*TINY, f"--workdir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    assert "test top-1: " in trained.stdout
    assert "step 3/3" in trained.stdout
    evaluated = run(*TINY, f"--workdir={tmp_path}/run", "--mode=eval", "--config.eval_batch_size=5")
    assert evaluated.returncode == 0, evaluated.stderr
    top1 = trained.stdout.split("test top-1: ")[1].split()[0]
    assert f"evaluation of the weights: top-1 {top1} %" in evaluated.stdout
    assert "(32 images)" in evaluated.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which config? for example --config=configs/digits.py"),
        (["--config=configs/digit.py"], "no config file 'configs/digit.py'; did you mean 'configs/digits.py'?"),
        ([*TINY, "--config.batch=3"], "unknown config field 'batch'; did you mean 'batch_size'?"),
        ([*TINY, "--config.batch_size=many"], "batch_size"),
        ([*TINY, "--config.model.name=posmlp"], "unknown model 'posmlp'; did you mean 'posmlp_"),
        ([*TINY, "--config.model.groups=(3,4)"], "stage 1: groups 3 do not divide the 16 mixed channels"),
        ([*TINY, "--mode=test"], "unknown mode 'test'"),
        ([*TINY, "--mode=eval"], "there is no checkpoint in"),
        ([*TINY, "--workdri=x"], "workdri"),
        ([*TINY, "digits"], "unexpected argument 'digits'"),
        ([*TINY, "--config.data.name=image_folder", "--config.data.data_dir=/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, arguments, message):
    workdir = [] if any("workdri" in argument for argument in arguments) else [f"--workdir={tmp_path}/run"]
    result = run(*arguments, *workdir)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not (tmp_path / "run").exists()
