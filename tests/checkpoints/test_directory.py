"""Directories of checkpoints: which step is the newest, and what a damaged one becomes."""

from etils import epath

from ict_jax.checkpoints.directory import complete_steps, damaged_steps, quarantine


def test_steps_are_in_the_order_of_their_numbers(tmp_path):
    directory = epath.Path(tmp_path) / "checkpoints"
    assert complete_steps(directory) == []
    for name in ("9", "10", "100", "20.orbax-checkpoint-tmp", "README"):
        (directory / name).mkdir(parents=True)
    assert complete_steps(directory) == [9, 10, 100]


def test_a_damaged_checkpoint_is_kept(tmp_path):
    step = epath.Path(tmp_path) / "checkpoints" / "20"
    for content in ("first", "second"):
        step.mkdir(parents=True)
        (step / "file").write_text(content)
        assert (quarantine(step) / "file").read_text() == content
        assert not step.exists() and damaged_steps(step.parent) == [20]
