import pytest

from hemorrhage_tf.models.tiny import Tiny


def test_feature_map_has_an_eighth_of_the_side():
    model = Tiny(include_top=False, weights=None, input_shape=(24, 16, 3))
    assert model.output_shape == (None, 3, 2, 64)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((True, None, (16, 16, 3)), "neither a top nor stored weights"),
        ((False, "imagenet", (16, 16, 3)), "neither a top nor stored weights"),
        ((False, None, (16, 7, 3)), "at least 8 x 8"),
    ],
)
def test_rejects_unsupported_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tiny(*arguments)
