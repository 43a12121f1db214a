import pytest

from hemorrhage_tf.models.phantomnet import EVIDENCE, STRIDE, PhantomNet


def test_feature_map_ends_with_the_evidence():
    model = PhantomNet(include_top=False, weights=None, input_shape=(64, 32, 3))
    assert model.output_shape == (None, 64 // STRIDE, 32 // STRIDE, 72 + len(EVIDENCE))
    assert model.get_layer("evidence").output.shape[-1] == len(EVIDENCE)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((True, None, (32, 32, 3)), "no top"),
        ((False, "imagenet", (32, 32, 3)), "loaded from a file"),
        ((False, None, (32, 48, 3)), "multiples of 32"),
    ],
)
def test_rejects_unsupported_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PhantomNet(*arguments)
