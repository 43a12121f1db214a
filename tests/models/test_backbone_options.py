from __future__ import annotations

import pytest

from hemorrhage_tf.core.errors import OptionError, WeightsError
from hemorrhage_tf.models.backbone_options import (
    backbone_specs,
    cut_backbones,
    join_values,
    parse_backbone_options,
    split_values,
)
from hemorrhage_tf.models.backbones import BACKBONES

BOTH = "resnet152+phantomnet"


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "a,b=c.weights.h5"  # what a path may hold
    path.touch()
    return str(path)


def weights_of(backbone: str, weights: str | None) -> list[str]:
    return [chosen.weights for chosen in parse_backbone_options(backbone, weights)]


class TestNames:
    @pytest.mark.parametrize("backbone", ["tiny", BOTH, "tiny + resnet50+mobilenet_v2"])
    def test_come_in_the_order_given(self, backbone):
        found = [spec.name for spec in backbone_specs(backbone)]
        assert found == backbone.replace(" ", "").split("+")

    @pytest.mark.parametrize(
        "backbone, message",
        [
            ("resnet51", "--backbone resnet51: no such backbone. Accepted: "),
            ("tiny+resnet51", r"--backbone tiny\+resnet51: no such backbone as 'resnet51'. Acc"),
            ("tiny+", r"--backbone tiny\+: no such backbone as ''. Accepted: "),
            ("tiny+tiny", r"--backbone tiny\+tiny: tiny is there more than once"),
        ],
    )
    def test_wrong_ones_list_the_accepted(self, backbone, message):
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
    def test_words(self, backbone, weights, expected):
        assert weights_of(backbone, weights) == expected

    def test_a_bare_file_is_of_the_one_that_is_not_embedded(self, file):
        assert weights_of(BOTH, file) == [file, "embedded"]
        assert weights_of("phantomnet+resnet152", file) == ["embedded", file]
        assert weights_of("phantomnet", file) == [file]

    def test_a_named_file(self, file):
        assert weights_of(BOTH, f"phantomnet={file}") == ["imagenet", file]
        assert weights_of("tiny+phantomnet", f"phantomnet=none,tiny={file}") == [file, "none"]

    @pytest.mark.parametrize("backbone", ["resnet152+resnet50", "tiny+phantomnet"])
    def test_a_bare_file_that_may_be_of_several_asks_for_a_name(self, backbone, file):
        first, second = backbone.split("+")
        with pytest.raises(
            OptionError, match=f"of, {first} or {second}. Give .*{first}="
        ) as caught:
            weights_of(backbone, file)
        assert f"--weights {first}={file}" in str(caught.value)

    @pytest.mark.parametrize(
        "weights, error, message",
        [
            (
                "resnet50=none",
                OptionError,
                "resnet50 is none of this model's backbones",
            ),
            ("phantomnet=none,phantomnet=none", OptionError, "phantomnet is given twice"),
            ("phantomnet=", OptionError, "nothing is given for phantomnet"),
            ("phantomnet=imagenet", OptionError, "no ImageNet weights of phantomnet"),
            ("resnet152=embedded", OptionError, "no embedded weights of resnet152"),
            (
                "imagnet",
                WeightsError,
                "no such file. Accepted: imagenet, none, embedded, or",
            ),
            ("resnet152=no.h5", WeightsError, "--weights no.h5: no such file. Accepted: imagenet"),
        ],
    )
    def test_wrong_ones(self, weights, error, message):
        with pytest.raises(error, match=message):
            weights_of(BOTH, weights)

    def test_imagenet_where_no_backbone_has_it(self):
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
    def test_layers(self, layer, expected):
        chosen = parse_backbone_options(BOTH, feature_layer=layer)
        assert [each.feature_layer for each in chosen] == expected

    def test_a_bare_layer_that_may_be_of_several_asks_for_a_name(self):
        with pytest.raises(OptionError, match="--feature-layer x: does not say which .*resnet50=x"):
            parse_backbone_options("resnet50+resnet152", feature_layer="x")

    def test_sizes_are_each_ones_own_or_all_the_one_given(self):
        assert [each.image_size for each in parse_backbone_options(BOTH)] == [224, 192]
        assert [each.image_size for each in parse_backbone_options(BOTH, image_size=96)] == [96, 96]


class TestJoined:
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
        assert join_values(values) == joined
        assert split_values(joined, "+".join(values)) == values

    def test_cut_backbones(self):
        assert cut_backbones("tiny", None) == {"tiny": "tiny"}
        assert cut_backbones("tiny", "block2_out") == {"tiny": "tiny to block2_out"}
        assert cut_backbones(BOTH, "resnet152=x") == {
            "resnet152": "resnet152 to x",
            "phantomnet": "phantomnet",
        }
