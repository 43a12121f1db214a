from __future__ import annotations

from dataclasses import replace

import pytest
from built_sources import build_source, source_of

from hemorrhage_tf.models.backbone_options import parse_backbone_options
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
from hemorrhage_tf.pipeline import model_input as model_input_module
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.features.source import FeatureSource

SIZE = 16
INPUT = ModelInput(SIZE)


def make_source(seed: int = 0, layer: str | None = None, policy: str = "float32") -> FeatureSource:
    backbone = build_backbone("tiny", "none", SIZE, layer, seed)
    spec = backbone_spec("tiny")
    return source_of(spec, backbone, layer, INPUT, policy)


@pytest.fixture(scope="module")
def source() -> FeatureSource:
    return make_source()


class TestFingerprint:
    def test_equal_sources_have_equal_fingerprints(self, source):
        assert make_source().fingerprint == source.fingerprint
        # No window and the default window lead to the same pixels.
        named = replace(source, model_input=ModelInput(SIZE, ("brain",)))
        assert named.fingerprint == source.fingerprint

    INPUTS = (
        ModelInput(SIZE, ("subdural",)),
        ModelInput(SIZE, ("brain", "subdural", "bone")),
        ModelInput(SIZE, crop_head=False),
        ModelInput(SIZE, upright=True),
    )

    def test_changes_with_everything_that_decides_the_features(self, source):
        backbone = build_backbone("tiny", "none", 32)
        others = [
            make_source(seed=1),
            make_source(layer="block2_out"),
            make_source(policy="mixed_bfloat16"),
            source_of(source.spec, backbone, None, ModelInput(32)),
            *(replace(source, model_input=each) for each in self.INPUTS),
            replace(source, spec=replace(source.spec, normalization="torch")),
            replace(source, spec=backbone_spec("mobilenet_v2")),
        ]
        assert len({each.fingerprint for each in [source, *others]}) == 1 + len(others)

    def test_changes_with_the_version_of_the_model_input(self, source, monkeypatch):
        before = source.fingerprint
        monkeypatch.setattr(model_input_module, "VERSION", -1)
        assert source.fingerprint != before

    def test_a_backbone_in_a_pair_shares_its_features_unless_images_are_resized(self, source):
        larger = replace(source, model_input=ModelInput(2 * SIZE))
        alone = build_source(
            parse_backbone_options("tiny", image_size=2 * SIZE)[0], ModelInput(2 * SIZE)
        )
        both = parse_backbone_options("tiny+phantomnet", "none", image_size=2 * SIZE)
        among = build_source(both[0], ModelInput(2 * SIZE))
        assert among.fingerprint == alone.fingerprint
        assert len({each.fingerprint for each in (source, larger, alone)}) == 3

    def test_the_width_includes_both_poolings(self, source):
        assert source.width == 128
        assert make_source(layer="block2_out").width == 64
