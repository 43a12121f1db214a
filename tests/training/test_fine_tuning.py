from __future__ import annotations

from types import SimpleNamespace

import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
from hemorrhage_tf.training.fine_tuning import fine_tuned_layers, layers_from


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("tiny", "none", 16)


def names_of(layers) -> list[str]:
    return [layer.name for layer in layers]


class TestLayersFrom:
    def test_leaves_batch_normalization_out(self, backbone):
        names = names_of(layers_from(backbone, "block2_convolution"))
        assert names == ["block2_convolution", "block2_out", "block3_convolution", "block3_out"]

    def test_an_unknown_layer_lists_the_last_ones(self, backbone):
        with pytest.raises(OptionError, match="--fine-tune-from block9: .*no such layer.*block3_o"):
            layers_from(backbone, "block9")

    @pytest.mark.parametrize("name", ["block3_normalization", "block3_out"])
    def test_rejects_layers_without_weights(self, backbone, name):
        with pytest.raises(OptionError, match=f"--fine-tune-from {name}: .*Name an earlier layer"):
            layers_from(backbone, name)


def test_fine_tuned_layers_leave_other_backbones_frozen(backbone):
    sources = [
        SimpleNamespace(spec=backbone_spec("tiny"), backbone=backbone),
        SimpleNamespace(spec=backbone_spec("phantomnet"), backbone=None),
    ]
    layers = fine_tuned_layers(sources, "tiny=block3_convolution")
    assert [names_of(each) for each in layers] == [["block3_convolution", "block3_out"], []]
