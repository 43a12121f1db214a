from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings


def test_only_whole_batches_count():
    settings = PretrainingSettings(count=10, batch_size=4, epochs=3)
    assert (settings.steps_of_epoch, settings.steps) == (2, 6)


def test_the_version_of_the_phantoms_is_recorded():
    recorded = PretrainingSettings().to_dict()
    assert recorded["generator"] == GENERATOR_VERSION and recorded["count"] == 70_000
