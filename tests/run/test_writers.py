"""Writers of reports: what a full disk costs, and what TensorBoard reads."""

import errno
import io
import os

import numpy as np
import pytest
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from ict_jax.run.log import RunLog
from ict_jax.run.report.events import read_scalars
from ict_jax.run.writers import EventWriter


# tensorboard's thread ends with the error, which it hands on too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_costs_the_reports_of_its_time(tmp_path, monkeypatch, capsys):
    writer = EventWriter(epath.Path(tmp_path))
    writer.write_scalars(1, {"a": 1.0})
    writer.flush()
    with monkeypatch.context() as full:

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(event_file_writer.RecordWriter, "write", write)
        for step in range(2, 40):  # more than tensorboard queues
            writer.write_scalars(step, {"a": 1.0})
            writer.flush()
    writer.write_scalars(40, {"a": 2.0})
    writer.close()
    assert "TensorBoard events could not be written" in capsys.readouterr().out
    notes = []
    files = [file for file in epath.Path(tmp_path).iterdir() if file.stat().length]
    assert read_scalars(files, [], notes) == {"a": {1: 1.0, 40: 2.0}} and not notes


def test_tensorboard_reads_scalars_and_grids(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), np.uint8)
    log = RunLog(epath.Path(tmp_path), total_steps=10, batch_size=2)
    log.write_scores(5, {"fd": 0.5})
    log.write_images(5, {"one_step": pixels})
    log.flush()  # everything is on disk, the file still open
    events = EventAccumulator(str(tmp_path)).Reload()
    log.close()
    assert [(e.step, e.value) for e in events.Scalars("eval/fd")] == [(5, 0.5)]
    (image,) = events.Images("samples/one_step")
    assert (image.step, image.height, image.width) == (5, 9, 5)
    png = Image.open(io.BytesIO(image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(png), pixels)
