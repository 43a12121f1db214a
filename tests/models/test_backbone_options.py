from __future__ import annotations

import pytest

from hemorrhage_tf.core.errors import OptionError, WeightsError
from hemorrhage_tf.models.backbone_options import (
    backbone_specs,
    describe_backbones,
    join_backbone_values,
    parse_backbone_options,
    split_backbone_values,
)
from hemorrhage_tf.models.backbones import BACKBONES

BOTH = "resnet152+phantomnet"


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "a,b=c.weights.h5"  # characters that paths may contain
    path.touch()
    return str(path)


def weights_of(backbone: str, weights: str | None) -> list[str]:
    return [chosen.weights for chosen in parse_backbone_options(backbone, weights)]


class TestNames:
    @pytest.mark.parametrize("backbone", ["tiny", BOTH, "tiny + resnet50+mobilenet_v2"])
    def test_keep_the_order(self, backbone):
        names = [spec.name for spec in backbone_specs(backbone)]
        assert names == backbone.replace(" ", "").split("+")

    @pytest.mark.parametrize(
        "backbone, message",
        [
            ("resnet51", "--backbone resnet51: no such backbone. Pass one of "),
            ("tiny+resnet51", r"--backbone tiny\+resnet51: no such backbone named 'resnet51'"),
            ("tiny+", r"--backbone tiny\+: no such backbone named ''. Pass one of "),
            ("tiny+tiny", r"--backbone tiny\+tiny: tiny is repeated"),
        ],
    )
    def test_rejects_unknown_and_repeated_names_and_lists_the_accepted(self, backbone, message):
        with pytest.raises(OptionError, match=message) as caught:
            backbone_specs(backbone)
        assert all(name in str(caught.value) for name in BACKBONES)
        assert "joined by +" in str(caught.value)


class TestWeights:
    @pytest.mark.parametrize(
        "backbone, weights, expected",
        [
            (BOTH, None, ["imagenet", "embedded"]),
            (BOTH, "imagenet", ["imagenet", "embedded"]),
            (BOTH, "embedded", ["imagenet", "embedded"]),
            (BOTH, "none", ["none", "none"]),
            (BOTH, "phantomnet=none", ["imagenet", "none"]),
            (BOTH, "phantomnet=none, resnet152=imagenet", ["imagenet", "none"]),
            ("tiny+phantomnet", None, ["none", "embedded"]),
            ("tiny", "tiny=none", ["none"]),
        ],
    )
    def test_words_apply_to_the_backbones_that_have_such_weights(self, backbone, weights, expected):
        assert weights_of(backbone, weights) == expected

    def test_a_bare_file_belongs_to_the_backbone_that_is_not_embedded(self, file):
        assert weights_of(BOTH, file) == [file, "embedded"]
        assert weights_of("phantomnet+resnet152", file) == ["embedded", file]
        assert weights_of("phantomnet", file) == [file]

    def test_a_named_file_belongs_to_its_backbone(self, file):
        assert weights_of(BOTH, f"phantomnet={file}") == ["imagenet", file]
        assert weights_of("tiny+phantomnet", f"phantomnet=none,tiny={file}") == [file, "none"]

    @pytest.mark.parametrize("backbone", ["resnet152+resnet50", "tiny+phantomnet"])
    def test_rejects_a_bare_file_that_could_belong_to_several_backbones(self, backbone, file):
        first, second = backbone.split("+")
        with pytest.raises(
            OptionError, match=f"could belong to {first} or {second}. Pass NAME=VALUE"
        ) as caught:
            weights_of(backbone, file)
        assert f"--weights {first}={file}" in str(caught.value)

    @pytest.mark.parametrize(
        "weights, error, message",
        [
            (
                "resnet50=none",
                OptionError,
                "resnet50 is not a backbone of this model",
            ),
            ("phantomnet=none,phantomnet=none", OptionError, "phantomnet is repeated"),
            ("phantomnet=", OptionError, "phantomnet has no value"),
            ("phantomnet=imagenet", OptionError, "no ImageNet weights of phantomnet"),
            ("resnet152=embedded", OptionError, "no embedded weights of resnet152"),
            (
                "imagnet",
                WeightsError,
                "no such file. Pass imagenet, none, embedded, or",
            ),
            ("resnet152=no.h5", WeightsError, "--weights no.h5: no such file. Pass imagenet"),
        ],
    )
    def test_rejects_wrong_values(self, weights, error, message):
        with pytest.raises(error, match=message):
            weights_of(BOTH, weights)

    def test_rejects_imagenet_if_no_backbone_has_such_weights(self):
        with pytest.raises(OptionError, match="no ImageNet weights of tiny"):
            weights_of("tiny+phantomnet", "imagenet")


class TestLayersAndSizes:
    @pytest.mark.parametrize(
        "layer, expected",
        [
            (None, [None, None]),
            ("conv4", ["conv4", None]),
            ("phantomnet=top2_out", [None, "top2_out"]),
            ("phantomnet=top2_out,resnet152=conv4", ["conv4", "top2_out"]),
        ],
    )
    def test_layers_belong_to_their_backbones(self, layer, expected):
        chosen = parse_backbone_options(BOTH, feature_layer=layer)
        assert [each.feature_layer for each in chosen] == expected

    def test_rejects_a_bare_layer_that_could_belong_to_several_backbones(self):
        with pytest.raises(OptionError, match="--feature-layer x: could belong to .*resnet50=x"):
            parse_backbone_options("resnet50+resnet152", feature_layer="x")

    def test_sizes_are_each_backbones_own_or_the_one_passed(self):
        assert [each.image_size for each in parse_backbone_options(BOTH)] == [224, 192]
        assert [each.image_size for each in parse_backbone_options(BOTH, image_size=96)] == [96, 96]


class TestJoinedValues:
    @pytest.mark.parametrize(
        "values, joined",
        [
            ({"tiny": None}, None),
            ({"tiny": "a,b"}, "a,b"),
            ({"tiny": None, "phantomnet": None}, None),
            ({"tiny": None, "phantomnet": "x"}, "phantomnet=x"),
            ({"tiny": "a,b.h5", "phantomnet": "x"}, "tiny=a,b.h5,phantomnet=x"),
        ],
    )
    def test_round_trip(self, values, joined):
        assert join_backbone_values(values) == joined
        assert split_backbone_values(joined, "+".join(values)) == values

    def test_backbones_are_described_with_their_last_layer(self):
        assert describe_backbones("tiny", None) == {"tiny": "tiny"}
        assert describe_backbones("tiny", "block2_out") == {"tiny": "tiny to block2_out"}
        assert describe_backbones(BOTH, "resnet152=x") == {
            "resnet152": "resnet152 to x",
            "phantomnet": "phantomnet",
        }
