from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf
from hemorrhage_tf.core.errors import OptionError, WeightsError
from hemorrhage_tf.models.backbones import (
    BACKBONES,
    EMBEDDED_BACKBONE,
    backbone_spec,
    build_backbone,
    fingerprint,
    join_hashes,
    normalize,
    resolve_weights,
    weights_hash,
)

SIZE = 16


def tiny(weights: str = "none", feature_layer: str | None = None, seed: int = 0):
    return build_backbone("tiny", str(weights), SIZE, feature_layer, seed)


def save_legacy(model, path: Path) -> Path:
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
    return path


def assert_equal_weights(one, other) -> None:
    assert len(one.weights) == len(other.weights)
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


class TestRegistry:
    def test_lists_without_tensorflow(self):
        script = (
            "import sys; from hemorrhage_tf.models.backbones import BACKBONES, backbone_spec;"
            "[backbone_spec(name) for name in BACKBONES];"
            "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules;"
            "print(','.join(BACKBONES))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(hemorrhage_tf.__file__).parents[1],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().split(",") == list(BACKBONES)

    def test_unknown_name_lists_the_accepted(self):
        with pytest.raises(OptionError, match="--backbone resnet51: no such backbone") as caught:
            backbone_spec("resnet51")
        assert all(name in str(caught.value) for name in BACKBONES)

    def test_the_embedded_backbone_has_weights(self):
        assert backbone_spec(EMBEDDED_BACKBONE).weights_file is not None
        assert {name for name, spec in BACKBONES.items() if spec.embedded} == {
            "tiny",
            EMBEDDED_BACKBONE,
        }


class TestResolveWeights:
    @pytest.mark.parametrize("name", BACKBONES)
    def test_default(self, name):
        embedded = {"tiny": "none", "phantomnet": "embedded"}
        assert resolve_weights(name, None) == embedded.get(name, "imagenet")

    def test_only_phantomnet_has_embedded_weights(self):
        with pytest.raises(OptionError, match="there are no embedded weights of tiny"):
            resolve_weights("tiny", "embedded")

    @pytest.mark.parametrize(
        "name, weights",
        [
            ("resnet50", "imagenet"),
            ("resnet50", "none"),
            ("phantomnet", "embedded"),
            ("phantomnet", "none"),
        ],
    )
    def test_keeps_a_named_kind(self, name, weights):
        assert resolve_weights(name, weights) == weights

    def test_keeps_a_file(self, tmp_path):
        path = tmp_path / "some.weights.h5"
        path.touch()
        assert resolve_weights("tiny", str(path)) == str(path)

    @pytest.mark.parametrize(
        "name, weights, message",
        [
            ("tiny", "imagenet", "no ImageNet weights of tiny. Pass none, or a"),
            ("phantomnet", "imagenet", "no ImageNet weights of phantomnet. Pass embedded, none"),
            ("tiny", "embedded", "no embedded weights of tiny. Pass none, or a"),
            ("resnet50", "embedded", "no embedded weights of resnet50. Pass imagenet, none, or a"),
        ],
    )
    def test_rejects_a_missing_kind_and_lists_the_accepted(self, name, weights, message):
        with pytest.raises(OptionError, match=f"--weights {weights}: there are {message}"):
            resolve_weights(name, weights)

    @pytest.mark.parametrize("received", ["imagenett", "no/such.weights.h5", "."])
    def test_no_such_file(self, received):
        with pytest.raises(WeightsError, match="no such file. Pass imagenet, none") as caught:
            resolve_weights("resnet50", received)
        assert received in str(caught.value)

    def test_unknown_backbone(self):
        with pytest.raises(OptionError, match="no such backbone"):
            resolve_weights("nothing", None)


class TestBuild:
    def test_is_frozen_and_has_a_feature_map(self):
        backbone = tiny()
        assert not backbone.trainable_variables
        assert backbone.input_shape == (None, SIZE, SIZE, 3)
        assert backbone.output_shape == (None, SIZE // 8, SIZE // 8, 64)

    def test_random_weights_depend_on_the_seed_alone(self):
        first = tiny(seed=3)
        assert_equal_weights(first, tiny(seed=3))
        assert weights_hash(first) != weights_hash(tiny(seed=4))

    def test_rejects_too_small_a_size(self):
        with pytest.raises(OptionError, match="--image-size 4: tiny does not accept it.*8 x 8"):
            build_backbone("tiny", "none", 4)

    def test_ends_at_the_feature_layer(self):
        whole, cut = tiny(), tiny(feature_layer="block2_out")
        assert cut.output_shape == (None, SIZE // 4, SIZE // 4, 32)
        assert cut.layers[-1].name == "block2_out"
        assert not cut.trainable_variables
        images = np.random.default_rng(0).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
        # The layers of the whole backbone, one after the other.
        expected = images
        for layer in whole.layers[1:7]:
            expected = layer(expected)
        assert layer.name == "block2_out"
        np.testing.assert_allclose(cut(images), expected, rtol=1e-5, atol=1e-6)

    def test_unknown_layer_suggests_similar_names(self):
        with pytest.raises(OptionError, match="--feature-layer block2_ot: tiny has no such layer"):
            tiny(feature_layer="block2_ot")
        with pytest.raises(OptionError, match="Pass the name of a layer, such as block2_out"):
            tiny(feature_layer="block2_ot")

    def test_layer_without_similar_names_suggests_the_last(self):
        with pytest.raises(OptionError, match="such as .*block3_out"):
            tiny(feature_layer="%%%")

    def test_rejects_a_layer_without_a_feature_map(self):
        # A squeeze-and-excitation block holds pooled vectors.
        with pytest.raises(OptionError, match=r"block4a_se_squeeze.*Pass a layer with"):
            build_backbone("efficientnet_v2_b0", "none", 32, "block4a_se_squeeze")


class TestWeightsFile:
    @pytest.mark.parametrize("feature_layer", [None, "block2_out"])
    def test_round_trip(self, tmp_path, feature_layer):
        saved = tiny(feature_layer=feature_layer, seed=7)
        path = tmp_path / "x.weights.h5"
        saved.save_weights(path)
        loaded = tiny(path, feature_layer)
        assert_equal_weights(saved, loaded)
        assert weights_hash(saved) == weights_hash(loaded) != weights_hash(tiny())

    def test_file_of_the_whole_backbone_fits_a_part_of_it(self, tmp_path):
        saved = tiny(seed=7)
        path = tmp_path / "whole.weights.h5"
        saved.save_weights(path)
        cut = tiny(path, "block2_out")
        assert cut.layers[-1].name == "block2_out"
        for left, right in zip(cut.get_weights(), saved.get_weights(), strict=False):
            np.testing.assert_array_equal(left, right)

    def test_file_of_another_feature_layer_does_not_fit(self, tmp_path):
        path = tmp_path / "cut.weights.h5"
        tiny(feature_layer="block2_out").save_weights(path)
        with pytest.raises(WeightsError, match="does not fit the whole tiny") as caught:
            tiny(path)
        message = str(caught.value)
        assert str(path) in message
        assert "--feature-layer" in message
        expected = tiny()
        assert f"{len(expected.layers)} layers" in message
        assert f"{expected.count_params():,} parameters" in message

    def test_file_of_another_shape_does_not_fit(self, tmp_path):
        import keras

        other = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(5, 3)])
        path = tmp_path / "other.weights.h5"
        other.save_weights(path)
        with pytest.raises(WeightsError, match="does not fit tiny up to block1_out"):
            tiny(path, "block1_out")

    @pytest.mark.parametrize("name", ["bad.weights.h5", "bad.h5", "bad.txt", "bad.keras"])
    def test_rejects_a_text_file(self, tmp_path, name):
        path = tmp_path / name
        path.write_text("not weights\n" * 100)
        with pytest.raises(WeightsError, match="does not fit the whole tiny") as caught:
            tiny(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("name", ["cut.weights.h5", "cut.h5"])
    @pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
    def test_rejects_a_truncated_file(self, tmp_path, name, keep):
        path = tmp_path / name
        if name == "cut.h5":
            save_legacy(tiny(), path)
        else:
            tiny().save_weights(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(WeightsError, match="does not fit the whole tiny") as caught:
            tiny(path)
        assert str(path) in str(caught.value)

    def test_legacy_file_fits_the_whole_backbone_and_a_part_of_it(self, tmp_path):
        saved = tiny(seed=5)
        path = save_legacy(saved, tmp_path / "legacy.h5")
        assert_equal_weights(saved, tiny(path))
        cut = tiny(path, "block2_out")
        assert cut.layers[-1].name == "block2_out"
        for left, right in zip(cut.get_weights(), saved.get_weights(), strict=False):
            np.testing.assert_array_equal(left, right)
        assert len(cut.weights) == 10

    def test_legacy_file_of_another_backbone_does_not_fit(self, tmp_path):
        path = save_legacy(tiny(feature_layer="block1_out"), tmp_path / "legacy.h5")
        with pytest.raises(WeightsError, match=r"legacy\.h5: the file does not fit the whole tiny"):
            tiny(path)


class TestEmbeddedWeights:
    @pytest.fixture
    def saved(self, tmp_path, monkeypatch):
        """A backbone whose weights file replaces the package's own."""
        saved = build_backbone("phantomnet", "none", 32, seed=7)
        saved.save_weights(tmp_path / "phantomnet.weights.h5")
        monkeypatch.setattr("hemorrhage_tf.models.backbones.embedded_file", tmp_path.joinpath)
        return saved

    @pytest.mark.parametrize("size", [32, 64])
    def test_are_loaded_at_any_size(self, saved, size):
        loaded = build_backbone("phantomnet", "embedded", size)
        assert_equal_weights(loaded, saved)
        assert not loaded.trainable

    def test_fit_a_part_of_the_backbone(self, saved):
        cut = build_backbone("phantomnet", "embedded", 32, "stage2_block_out")
        assert cut.output_shape == (None, 4, 4, 64)
        for left, right in zip(cut.get_weights(), saved.get_weights(), strict=False):
            np.testing.assert_array_equal(left, right)


IMAGENET_SIZE = 96  # the smallest that Keras' store has weights of MobileNetV2 for


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A model, and its file as in Keras' own store."""
    import keras

    keras.utils.set_random_seed(123)
    model = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(IMAGENET_SIZE, IMAGENET_SIZE, 3)
    )
    path = save_legacy(model, tmp_path_factory.mktemp("store") / "mobilenet.h5")
    return model, path.read_bytes()


@contextmanager
def serving(content: bytes | None):
    """Serve one content under every path, or status 404, on the loopback interface."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", requests
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def keras_home(tmp_path, monkeypatch) -> Path:
    home = tmp_path / "keras"
    home.mkdir()  # Keras uses another folder if its home is missing or not writable
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(home))  # read on import
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    return home


def use_store(monkeypatch, address: str) -> None:
    monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", address)


def assert_names_three_ways_to_continue(message: str, home: Path) -> None:
    assert "the ImageNet weights of mobilenet_v2 are not available" in message
    assert "--weights FILE" in message
    assert str(home / "models") in message
    assert f"--backbone {EMBEDDED_BACKBONE}" in message


class TestImageNet:
    def test_downloads_once_and_then_reads_the_cache(
        self, imagenet, keras_home, monkeypatch, capfd
    ):
        model, content = imagenet
        timeout = socket.getdefaulttimeout()
        with serving(content) as (address, requests):
            use_store(monkeypatch, address)
            first = build_backbone("mobilenet_v2", "imagenet", IMAGENET_SIZE, "out_relu")
            assert len(requests) == 1
            second = build_backbone("mobilenet_v2", "imagenet", IMAGENET_SIZE)
            assert len(requests) == 1
        assert_equal_weights(first, model)
        assert_equal_weights(second, model)
        assert len(list((keras_home / "models").iterdir())) == 1
        assert capfd.readouterr().out == ""
        assert socket.getdefaulttimeout() == timeout

    @pytest.mark.slow
    def test_a_file_in_the_cache_needs_no_network(self, imagenet, keras_home, monkeypatch):
        model, content = imagenet
        use_store(monkeypatch, "http://127.0.0.1:9/")
        name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5"
        (keras_home / "models").mkdir()
        (keras_home / "models" / name).write_bytes(content)
        assert_equal_weights(build_backbone("mobilenet_v2", "imagenet", IMAGENET_SIZE), model)

    @pytest.mark.slow
    def test_reports_a_missing_file_of_the_store(self, keras_home, monkeypatch, capfd):
        with serving(None) as (address, requests):
            use_store(monkeypatch, address)
            with pytest.raises(WeightsError, match="404") as caught:
                build_backbone("mobilenet_v2", "imagenet", IMAGENET_SIZE)
        assert len(requests) == 1
        assert_names_three_ways_to_continue(str(caught.value), keras_home)
        assert not list((keras_home / "models").iterdir())
        assert capfd.readouterr().out == ""

    def test_reports_a_missing_network(self, keras_home, monkeypatch, capfd):
        with socket.socket() as taken:  # bound and not listening: a closed port
            taken.bind(("127.0.0.1", 0))
            use_store(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}/")
            with pytest.raises(WeightsError, match="refused") as caught:
                build_backbone("mobilenet_v2", "imagenet", IMAGENET_SIZE)
        assert_names_three_ways_to_continue(str(caught.value), keras_home)
        assert socket.getdefaulttimeout() is None
        assert capfd.readouterr().out == ""

    @pytest.mark.slow
    def test_reports_a_damaged_file_of_the_store(self, keras_home, monkeypatch):
        with serving(b"<html>sign in first</html>") as (address, _):
            use_store(monkeypatch, address)
            with pytest.raises(WeightsError) as caught:
                build_backbone("mobilenet_v2", "imagenet", IMAGENET_SIZE)
        assert_names_three_ways_to_continue(str(caught.value), keras_home)


class TestNormalize:
    @pytest.mark.parametrize(
        "kind, module",
        [("caffe", "resnet"), ("symmetric", "mobilenet_v2"), ("torch", "densenet")],
    )
    def test_equals_keras_preprocessing(self, kind, module):
        import keras

        images = np.random.default_rng(1).uniform(0, 255, (2, 5, 7, 3)).astype(np.float32)
        inputs = keras.Input((5, 7, 3))
        model = keras.Model(inputs, normalize(inputs, kind))
        expected = getattr(keras.applications, module).preprocess_input(images.copy())
        np.testing.assert_allclose(model(images), expected, atol=1e-4)

    @pytest.mark.parametrize(
        "name, kind",
        [
            ("resnet152", "caffe"),
            ("resnet50", "caffe"),
            ("mobilenet_v2", "symmetric"),
            ("densenet169", "torch"),
            ("efficientnet_v2_b0", "inside"),
        ],
    )
    def test_the_registry_has_each_backbones_own(self, name, kind):
        assert backbone_spec(name).normalization == kind

    def test_inside_is_done_by_the_backbone(self):
        import keras

        inputs = keras.Input((32, 32, 3))
        assert normalize(inputs, "inside") is inputs
        backbone = build_backbone("efficientnet_v2_b0", "none", 32)
        assert any(isinstance(layer, keras.layers.Rescaling) for layer in backbone.layers[:3])

    def test_the_layer_name_can_have_a_prefix(self):
        import keras

        for kind in ("caffe", "symmetric", "torch"):
            inputs = keras.Input((4, 4, 3))
            names = [layer.name for layer in keras.Model(inputs, normalize(inputs, kind)).layers]
            assert "normalization" in names
            model = keras.Model(inputs, normalize(inputs, kind, "tiny_"))
            assert model.layers[-1].name == "tiny_normalization"

    def test_unknown_kind(self):
        import keras

        with pytest.raises(ValueError, match="unknown normalization 'zscore'"):
            normalize(keras.Input((4, 4, 3)), "zscore")


class TestHashes:
    def test_one_weight_changes_the_hash(self):
        backbone = tiny()
        before = weights_hash(backbone)
        assert before == weights_hash(backbone)
        for layer, position in ((1, 0), (2, 2), (-2, 3)):  # a kernel, a moving mean, a variance
            weights = backbone.layers[layer].get_weights()
            weights[position].flat[-1] += 1e-3
            backbone.layers[layer].set_weights(weights)
            after = weights_hash(backbone)
            assert after != before
            before = after

    def test_joined_hash_depends_on_every_backbone(self):
        assert join_hashes({"tiny": "a"}) == "a"
        hashes = {
            join_hashes({"tiny": "a", "phantomnet": "b"}),
            join_hashes({"tiny": "b", "phantomnet": "a"}),
            join_hashes({"tiny": "a", "phantomnet": "c"}),
            join_hashes({"tiny": "a", "resnet50": "b"}),
        }
        assert len(hashes) == 4 and {len(each) for each in hashes} == {32}

    def test_fingerprint_does_not_depend_on_the_order_of_keys(self):
        one = fingerprint({"a": 1, "b": {"c": None, "d": "x"}})
        other = fingerprint({"b": {"d": "x", "c": None}, "a": 1})
        assert one == other
        assert len(one) == 32 and int(one, 16) >= 0

    def test_fingerprint_depends_on_every_value(self):
        parts = {"a": 1, "b": None, "c": "x"}
        hashes = {fingerprint(parts), *(fingerprint({**parts, key: "other"}) for key in parts)}
        assert len(hashes) == 4
