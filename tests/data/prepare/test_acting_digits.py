import io
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.moments import decode_moment
from posmlp_jax.data.prepare.datasets import acting_digits
from posmlp_jax.data.prepare.datasets.acting_digits import (
    ACTIONS,
    KEY_FRAMES,
    NUM_FRAMES,
    PAIRS,
    SIZE,
    STILL,
    ZERO,
    draw_shot,
    film,
    render,
    shots,
)
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.ava_tables import read_detections, read_excluded, read_ground_truth, read_label_map
from posmlp_jax.data.sources.opening import open_films
from posmlp_jax.data.sources.tfds_layout import PreparedSource, find_prepared
from posmlp_jax.errors import DataError
from posmlp_jax.tasks.action_detection.matching import ious

# A clip of 9 frames round a key frame.
CLIP = range(-4, 5)


@pytest.fixture(scope="module")
def some_shots():
    return [actors for number in range(15) for actors in shots("train", number).values()]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acting_digits, "FILMS", {"train": 6, "val": 4})
        patch.setattr(acting_digits, "_EXCLUDED", 0.3)
        prepare("acting_digits", data_dir=str(folder))
    return find_prepared("acting_digits", str(folder))


def decoded(data):
    """The frames of a film, uint8 [n, height, width], and their times in seconds."""
    with av.open(io.BytesIO(data)) as container:
        frames = [(frame.to_ndarray(format="gray"), frame.pts * frame.time_base) for frame in container.decode(video=0)]
    return np.stack([pixels for pixels, _ in frames]), [time for _, time in frames]


def test_a_clip_backwards_is_one_of_the_opposite_actions(some_shots):
    """The same frames, so without their order nothing tells a thing that is done from its opposite."""
    opposite = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])} | {STILL: STILL, ZERO: ZERO}
    for actors in some_shots:
        turned = [actor.backwards() for actor in actors]
        np.testing.assert_array_equal(render(actors, CLIP)[::-1], render(turned, CLIP))
        for actor, other in zip(actors, turned, strict=True):
            assert other.actions == sorted(opposite[action] for action in actor.actions)
            np.testing.assert_array_equal(other.box(), actor.box())
            assert other.reach() == actor.reach()


def test_the_encoder_leaves_no_trace_of_the_direction(some_shots):
    clip = render(some_shots[0], CLIP)
    forwards, _ = decoded(acting_digits.encode(clip, acting_digits.FPS))
    backwards, _ = decoded(acting_digits.encode(clip[::-1], acting_digits.FPS))
    np.testing.assert_array_equal(forwards[::-1], backwards)
    assert np.abs(forwards.astype(int) - clip).mean() < 0.5


def test_paths_stay_on_the_canvas(some_shots):
    for actors in some_shots:
        for actor in actors:
            for time in (-15, -5, -4, 0, 4, 5, 14):
                drawn = actor.drawn(time)
                # Enlarging blurs the edge of the ink a little.
                assert max(drawn[[0, -1]].max(), drawn[:, [0, -1]].max()) < 128


def test_digits_do_what_is_said_of_them():
    """By the centre of mass and the sum of the ink, before and after; of angles, `draw` has a test of its own."""
    seen = set()
    for seed in range(40):
        for actor in draw_shot(np.random.default_rng(seed), *some_digits()):
            before, after = (actor.drawn(time).astype(float) for time in (-4, 4))
            moved = [mass_centre(after)[axis] - mass_centre(before)[axis] for axis in (0, 1)]
            grown = np.log(after.sum() / before.sum())
            for pair, change, least in ((1, 2), moved[0], 6), ((3, 4), moved[1], 6), ((9, 8), grown, 0.5):
                done = pair[int(change > 0)] if abs(change) > least else None
                assert [action for action in actor.actions if action in pair] == ([done] if done else [])
            assert (6 in actor.actions) == (actor.turn > 0)
            assert (7 in actor.actions) == (actor.turn < 0)
            seen |= {*actor.actions}
    assert seen == {*ACTIONS, STILL, ZERO}


def some_digits():
    pixels, labels, indices = acting_digits._digits()
    return pixels[indices["test"]], labels[indices["test"]]


def mass_centre(picture):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return (picture * x).sum() / picture.sum(), (picture * y).sum() / picture.sum()


def test_files(prepared):
    annotations = prepared / "annotations"
    names = [
        category.name for category in read_label_map(annotations / "ava_action_list_v2.2_for_activitynet_2019.pbtxt")
    ]
    everything = read_label_map(annotations / "ava_action_list_v2.2.pbtxt")
    assert names == ["left", "right", "up", "down", "clockwise", "counterclockwise", "growing", "shrinking"]
    assert [category.id for category in everything] == list(range(1, 11))
    for split, count in (("train", 6), ("val", 4)):
        truth = read_ground_truth(annotations / f"ava_{split}_v2.2.csv")
        excluded = read_excluded(annotations / f"ava_{split}_excluded_timestamps_v2.2.csv")
        found = read_detections(annotations / f"detections_{split}.csv")
        assert {*truth.videos} == {*found.videos} == {f"{split}_{number:04d}" for number in range(count)}
        assert {*truth.seconds.tolist()} == {902, 904}
        assert excluded < {*zip(truth.videos, truth.seconds.tolist(), strict=True)}
        assert not found.actions.any()
        assert (np.round(truth.boxes, 3) == truth.boxes).all()
        for second, actors in shots(split, 0).items():
            mine = (truth.videos == f"{split}_0000") & (truth.seconds == second)
            rows = zip(truth.boxes[mine].tolist(), truth.actions[mine].tolist(), strict=True)
            expected = [(actor.box().tolist(), action) for actor in actors for action in actor.actions]
            assert (f"{split}_0000", second) in excluded or list(rows) == expected


def test_other_tasks_have_no_use_for_them(prepared):
    with pytest.raises(DataError, match=r"has no features.json: films with AVA's tables"):
        PreparedSource(prepared, "train")


def test_films(prepared):
    data = (prepared / "videos" / "val_0001.mp4").read_bytes()
    frames, times = decoded(data)
    assert times == [Fraction(2 * number, 15) for number in range(NUM_FRAMES)]
    assert frames.shape == (NUM_FRAMES, *SIZE)
    for (second, frame), actors in zip(KEY_FRAMES.items(), shots("val", 1).values(), strict=True):
        assert times[frame] == second - 900
        np.testing.assert_allclose(frames[frame - 4 : frame + 5], render(actors, CLIP), atol=25)
        for actor in actors:
            left, top, right, bottom = actor.box() * np.tile(SIZE[::-1], 2)
            y, x = np.nonzero(actor.drawn(0) > 127)
            np.testing.assert_allclose(
                (left, top, right, bottom), (x.min(), y.min(), x.max() + 1, y.max() + 1), atol=0.06
            )
    assert data == film("val", 1)


def test_clips_of_key_frames(prepared, make_config):
    """What a detector of actions is shown: as many frames before the key frame as after it."""
    config = make_config(name="acting_digits", data_dir=str(prepared.parent.parent), stride=1, fps=7.5)
    source = open_films(config, "eval")
    sampling = FrameSampling(config.sampling, len(CLIP), config.stride, config.fps)
    for index in range(len(source)):
        (moment, boxes), number = source[index], int(source.videos[index].removeprefix("val_"))
        actors = shots("val", number)[int(source.seconds[index])]
        clip, _ = decode_moment(moment, sampling)
        np.testing.assert_allclose(clip[..., 0], render(actors, CLIP), atol=25)
        assert boxes.boxes.tolist() == [actor.box().tolist() for actor in actors]
        assert [(np.flatnonzero(row) + 1).tolist() for row in boxes.labels] == [actor.actions for actor in actors]


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(acting_digits, "FILMS", {"train": 2, "val": 2})
    made = []

    def stopped(split, number):
        made.append((split, number))
        if len(made) == 3:
            raise KeyboardInterrupt
        return film(split, number)

    monkeypatch.setattr(acting_digits, "film", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare("acting_digits", data_dir=str(tmp_path))
    assert [each.name for each in (tmp_path / "acting_digits").iterdir() if each.suffix != ".lock"] == [
        "1.0.0.incomplete"
    ]
    folder = prepare("acting_digits", data_dir=str(tmp_path))
    assert made == [("train", 0), ("train", 1), ("val", 0), ("val", 0), ("val", 1)]
    assert len(list((folder / "videos").iterdir())) == 4
    assert prepare("acting_digits", data_dir=str(tmp_path)) == folder
    assert len(made) == 5


def test_what_the_bars_need():
    """600 boxes a pair for validation; no direction is likelier than its opposite, nor tells of a neighbour's."""
    tables = acting_digits._tables("val", acting_digits.FILMS["val"])
    rows = [line.split(",") for line in tables["ava_{}_v2.2"].splitlines()]
    excluded = set(tables["ava_{}_excluded_timestamps_v2.2"].splitlines())
    rows = [row for row in rows if f"{row[0]},{row[1]}" not in excluded]
    actions = np.array([int(row[6]) for row in rows])
    for first, second in PAIRS:
        counts = np.bincount(actions, minlength=11)[[first, second]]
        assert counts.sum() >= 600
        # Three standard deviations.
        assert abs(counts[0] - counts[1]) < 3 * np.sqrt(counts.sum())
        signs = {}
        for row in rows:
            if int(row[6]) in (first, second):
                signs.setdefault((row[0], row[1]), []).append(1 if int(row[6]) == first else -1)
        products = [a * b for each in signs.values() for a, b in itertools.pairwise(each)]
        assert abs(sum(products)) < 3 * np.sqrt(len(products))
    boxes = {tuple(row[:6]) for row in rows}
    assert len(boxes) > 1500
    found = [line.split(",") for line in tables["detections_{}"].splitlines()]
    found = [row for row in found if f"{row[0]},{row[1]}" not in excluded and float(row[7]) >= 0.8]
    numbers = {}
    for row in found:
        numbers.setdefault((row[0], row[1]), []).append(np.array(row[2:6], float))
    hits = sum(
        max(ious(np.array([row[2:]], float), other[None])[0] for other in numbers.get(row[:2], [np.zeros(4)])) > 0.5
        for row in boxes
    )
    assert hits > 0.95 * len(boxes)
    assert len(boxes) < len(found) < 1.15 * len(boxes)
