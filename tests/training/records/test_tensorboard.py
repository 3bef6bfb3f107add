import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from posmlp_jax.training.records.tensorboard import ScalarEvents


def read(folder) -> list[Event]:
    """TensorBoard's files are TFRecords of events: length, its checksum, the event, its checksum."""
    (file,) = folder.iterdir()
    data, events = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


@pytest.mark.parametrize("start_step", [0, 7])
def test_events_are_on_disk_at_once_and_hide_what_a_killed_run_wrote(tmp_path, start_step):
    events = ScalarEvents(tmp_path / "tensorboard", start_step)
    events.write(8, {"train/loss": 1.5, "train/top1": 0.25})
    header, *start, loss, top1 = read(tmp_path / "tensorboard")
    events.close()
    assert header.file_version == "brain.Event:2"
    assert [(e.step, e.session_log.status) for e in start] == ([(8, SessionLog.START)] if start_step else [])
    for event, tag, value in ((loss, "train/loss", 1.5), (top1, "train/top1", 0.25)):
        assert event.step == 8
        assert [(v.tag, v.simple_value) for v in event.summary.value] == [(tag, value)]
