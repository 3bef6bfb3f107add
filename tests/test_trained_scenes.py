"""What docs/detection.md says of the built-in scenes: trained as it says, and scored again by pycocotools alone."""

import json
import subprocess
import sys

import pytest
from runs import Process, metrics, on_devices

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

# Below the lowest of three seeds.
LEAST = {
    "digit_scenes": {"box_ap": 0.62, "box_ap50": 0.86},
    "digit_scenes_masks": {"box_ap": 0.68, "mask_ap": 0.60},
}
SCORE = """
import json, sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth = COCO(sys.argv[1])
scored = COCOeval(truth, truth.loadRes(sys.argv[2]), sys.argv[3])
scored.evaluate(); scored.accumulate(); scored.summarize()
print(json.dumps([float(value) for value in scored.stats[:2]]))
"""


@pytest.mark.parametrize("name", LEAST)
def test_training_on_two_cores(name, tmp_path):
    run = Process(f"--config=configs/detection/{name}.py", f"--workdir={tmp_path}", XLA_FLAGS=on_devices(1))
    assert run.end(1800) == 0, run.errors
    found = [line for line in metrics(tmp_path) if line["split"] == "eval"][-1]
    assert {metric: found[metric] >= least for metric, least in LEAST[name].items()} == dict.fromkeys(LEAST[name], True)
    (folder,) = (tmp_path / "evaluation").iterdir()
    for kind, file, metric in (("bbox", "detections", "box_ap"), ("segm", "masks", "mask_ap")):
        if metric in found:
            files = folder / "groundtruth.json", folder / f"{file}.json"
            done = subprocess.run(
                [sys.executable, "-c", SCORE, *files, kind], capture_output=True, text=True, check=True
            )
            assert json.loads(done.stdout.splitlines()[-1]) == [found[metric], found[f"{metric}50"]]
