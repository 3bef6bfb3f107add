"""Films of a few frames in AVA's formats, and an action detector that trains on them in seconds."""

import cv2
import numpy as np
from ml_collections import ConfigDict

from posmlp_jax.data.sources.ava_tables import Boxes, boxes_csv
from posmlp_jax.paths import as_path
from posmlp_jax.training import default_config

# Of three ids two are evaluated.
ACTIONS = {1: "red", 3: "blue"}
BEGIN, SECONDS, FPS = 900, 4, 8
# High films and wide ones: of each canvas some.
SHAPES = ((40, 60), (60, 40))
CANVASES = ((48, 64), (64, 48))


def write_films(folder, train: int = 5, evaluation: int = 3) -> None:
    """Folders of frames with one or two rectangles in the colours of their actions, and all of AVA's files."""
    random = np.random.default_rng(0)
    folder = as_path(folder)
    (folder / "annotations").mkdir(parents=True)
    rows = {"train": [], "val": []}
    for number in range(train + evaluation):
        video = f"film{number}"
        (folder / "frames" / video).mkdir(parents=True)
        height, width = SHAPES[number % 2]
        frames = random.integers(90, 130, (SECONDS * FPS, height, width, 3)).astype(np.uint8)
        for person in range(1 + number % 2):
            x, y = person * width // 2 + random.integers(0, 5), random.integers(2, height // 2)
            box = slice(y, y + height // 3), slice(x, x + width // 3)
            done = [(1,), (3,), (1, 3), (2,)][random.integers(4)]
            frames[:, *box] = 40
            for action in done:
                frames[:, *box, action - 1] = 230
            corners = np.array([x, y, x + width // 3, y + height // 3]) / np.array([width, height] * 2)
            rows["train" if number < train else "val"] += [
                (video, second, corners, action, person)
                for second in range(BEGIN + 1, BEGIN + SECONDS)
                for action in done
            ]
        for index, frame in enumerate(frames, start=1):
            cv2.imwrite(str(folder / "frames" / video / f"{video}_{index:06d}.jpg"), frame[..., ::-1])
    annotations = folder / "annotations"
    for split, table in rows.items():
        (annotations / f"ava_{split}_v2.2.csv").write_text(boxes_csv(table_of(table)))
        # The last second of the last film of each.
        (annotations / f"ava_{split}_excluded_timestamps_v2.2.csv").write_text(f"{table[-1][0]},{table[-1][1]}\n")
    items = (f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for number, name in ACTIONS.items())
    (annotations / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text("".join(items))


def table_of(rows, scores=None) -> Boxes:
    """Rows (video, second, corners, action, person) as a table."""
    videos, seconds, corners, actions, people = zip(*rows, strict=True)
    return Boxes(
        np.array(videos, object),
        np.array(seconds, np.int64),
        np.array(corners, np.float64),
        np.array(actions, np.int64),
        np.full(len(rows), np.nan) if scores is None else np.array(scores, np.float64),
        np.array(people, np.int64),
    )


def films_config(folder, **changes) -> ConfigDict:
    """A config that trains a detector of one block on them, eight clips a step."""
    config = default_config("action_posmlp_video_s", "action_detection")
    config.model.update(num_frames=3, image_size=32, widths=(8,), depths=(1,), windows=(4,), groups=(2,), drop_path=0.2)
    config.data.update(name="ava", data_dir=str(folder), stride=2, fps=float(FPS), crop="scaled", threads=1)
    config.data.update(scale_sides=(36, 44), canvases=CANVASES)
    config.update(batch_size=8, max_boxes=2, length="6 steps", keep_best="eval/map", ema_decay=0.9, devices=1)
    config.optimizer.update(peak_rate=3e-3, warmup="2 steps", constant="0 steps")
    config.update(log_every="1 steps", eval_every="3 steps", checkpoint_every="3 steps")
    config.update_from_flattened_dict(changes)
    return config
