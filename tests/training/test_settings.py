from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, fields

import pytest

from hemorrhage_tf.core.errors import HemorrhageError, OptionError, WeightsError
from hemorrhage_tf.training.settings import FitSettings


class TestRoundTrip:
    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"backbone": "tiny", "augment": "noise,rotation", "dropout": 0.3, "folds": 5},
            {
                "backbone": "densenet169",
                "weights": "none",
                "fine_tune_from": "x",
                "fine_tune_epochs": 2,
            },
            {"backbone": "tiny", "window": "brain,subdural,600/2800", "upright": True},
            {"backbone": "tiny", "window": "40/80", "crop_head": False},
            {"backbone": "tiny", "solver": "lbfgs", "l2": 0.1},
            {"backbone": "resnet152+phantomnet"},
            {"backbone": "tiny + phantomnet", "weights": "none", "image_size": 96},
            {"backbone": "tiny+phantomnet", "feature_layer": "phantomnet=top2_out"},
            {"backbone": "resnet50+resnet152", "feature_layer": "resnet50=x,resnet152=y"},
        ],
    )
    def test_survives_json(self, values):
        settings = FitSettings(**values)
        assert FitSettings(**json.loads(json.dumps(settings.to_dict()))) == settings

    def test_holds_every_field(self):
        settings = FitSettings(backbone="tiny")
        assert settings.to_dict().keys() == {field.name for field in fields(FitSettings)}


class TestDefaults:
    def test_weights_and_size_come_from_the_backbone(self):
        settings = FitSettings(backbone="resnet50")
        assert (settings.weights, settings.image_size) == ("imagenet", 224)
        settings = FitSettings(backbone="tiny")
        assert (settings.weights, settings.image_size) == ("none", 64)
        assert FitSettings(backbone="tiny", image_size=32).image_size == 32

    def test_each_of_several_backbones_has_its_own(self):
        settings = FitSettings(backbone="resnet152 + phantomnet", feature_layer="conv4")
        assert settings.backbone == "resnet152+phantomnet"
        assert settings.weights == "resnet152=imagenet,phantomnet=embedded"
        assert settings.feature_layer == "resnet152=conv4"
        assert [each.image_size for each in settings.backbones] == [224, 192]
        # One number would mean that both see that size.
        assert (settings.image_size, settings.input_size) == (None, 224)
        settings = FitSettings(backbone="resnet152+phantomnet", image_size=96)
        assert [each.image_size for each in settings.backbones] == [96, 96]
        assert (settings.image_size, settings.input_size) == (96, 96)

    @pytest.mark.parametrize("given", ["contrast,horizontal_flip", ["contrast", "horizontal_flip"]])
    def test_augmentations_are_sorted_by_order_of_use(self, given):
        settings = FitSettings(backbone="tiny", augment=given)
        assert settings.augment == ("horizontal_flip", "contrast")

    def test_no_augmentation(self):
        assert FitSettings(backbone="tiny", augment="none").augment == ()

    @pytest.mark.parametrize("given", ["brain, Subdural,40/80", ["brain", "subdural", "40/80"]])
    def test_windows_are_parsed(self, given):
        settings = FitSettings(backbone="tiny", window=given)
        assert settings.window == ("brain", "subdural", "40/80")

    def test_is_frozen(self):
        with pytest.raises(FrozenInstanceError):
            FitSettings(backbone="tiny").epochs = 3


class TestHeadSolver:
    @pytest.mark.parametrize(
        "values, solver",
        [
            ({}, "lbfgs"),
            ({"folds": 5, "repeats": 5, "views": 1, "class_weights": "none", "l2": 1}, "lbfgs"),
            ({"fine_tune_from": "x", "fine_tune_epochs": 2}, "lbfgs"),
            ({"epochs": 10, "batch_size": 32, "learning_rate": 0.001}, "lbfgs"),
            ({"epochs": 9}, "adam"),
            ({"batch_size": 16}, "adam"),
            ({"learning_rate": 0.01}, "adam"),
            ({"dropout": 0.1}, "adam"),
            ({"early_stopping": 1}, "adam"),
            ({"feature_cache": False}, "adam"),
            ({"solver": "adam"}, "adam"),
            ({"solver": "lbfgs"}, "lbfgs"),
            ({"solver": "lbfgs", "epochs": 3, "batch_size": 5, "learning_rate": 1}, "lbfgs"),
            ({"solver": "adam", "feature_cache": False, "dropout": 0.5}, "adam"),
        ],
    )
    def test_is_chosen_by_the_settings(self, values, solver):
        settings = FitSettings(**{"backbone": "tiny", **values})
        assert settings.head_solver == solver
        assert settings.solver == values.get("solver", "auto")


class TestPrior:
    @pytest.mark.parametrize(
        "values, prior, phantoms",
        [
            ({"backbone": "phantomnet"}, "embedded", 500),
            ({"backbone": "tiny+phantomnet"}, "embedded", 500),
            ({"backbone": "phantomnet", "phantoms": 0}, "embedded", 0),
            ({"backbone": "phantomnet", "prior": "none"}, "none", 0),
            ({"backbone": "phantomnet", "prior": "none", "phantoms": 40}, "none", 40),
            ({"backbone": "phantomnet", "weights": "none"}, "none", 0),
            ({"backbone": "phantomnet", "pooling": "max"}, "none", 0),
            ({"backbone": "phantomnet", "epochs": 3}, "none", 0),
            ({"backbone": "phantomnet", "window": "brain,subdural,bone"}, "none", 0),
            ({"backbone": "tiny"}, "none", 0),
            ({"backbone": "tiny", "phantoms": 40}, "none", 40),
        ],
    )
    def test_is_the_embedded_head_where_the_model_contains_it(self, values, prior, phantoms):
        settings = FitSettings(**values)
        assert (settings.prior, settings.phantoms) == (prior, phantoms)
        assert FitSettings(**settings.to_dict()) == settings


INVALID = [
    ({"prior": "imagenet"}, r"--prior imagenet: unknown. Pass one of auto, embedded, none"),
    ({"prior": "embedded"}, r"--prior embedded: .*embedded weights of a whole phantomnet"),
    (
        {"backbone": "phantomnet", "prior": "embedded", "pooling": "avg"},
        r"--prior embedded: .*it belongs to --pooling avg_max. Pass --prior none",
    ),
    (
        {"backbone": "phantomnet", "prior": "embedded", "solver": "adam"},
        r"--prior embedded: .*only --solver lbfgs has a penalty",
    ),
    ({"phantoms": -1}, r"--phantoms -1: out of range. Pass 0 to 100000."),
    ({"phantoms": 9, "epochs": 3}, r"--phantoms 9: only --solver lbfgs .* Pass --phantoms 0"),
    (
        {"phantoms": 9, "window": "brain,subdural,bone"},
        r"--phantoms 9: .*a window for each channel. Pass --phantoms 0",
    ),
    ({"phantom_weight": 2.0}, r"--phantom-weight 2: there are no phantoms.*Add --phantoms 500"),
    (
        {"phantoms": 9, "phantom_weight": 0.0},
        r"--phantom-weight 0.0: out of range. Pass a number above 0.",
    ),
    ({"backbone": "resnet51"}, r"--backbone resnet51: no such backbone. Pass one of .*resnet50"),
    ({"weights": "imagenet"}, r"--weights imagenet: there are no ImageNet weights of tiny"),
    (
        {"backbone": "tiny+phantomnet", "fine_tune_from": "x", "fine_tune_epochs": 1},
        r"--fine-tune-from x: could belong to tiny or phantomnet",
    ),
    ({"pooling": "mean"}, r"--pooling mean: unknown. Pass one of avg, max, avg_max"),
    ({"augment": "flip"}, r"--augment flip: no such augmentation. Pass some of horizontal_flip"),
    (
        {"strategy": "multi"},
        r"--strategy multi: unknown. Pass one of auto, mirrored, multiworker",
    ),
    (
        {"mixed_precision": "on"},
        r"--mixed-precision on: unknown. Pass one of auto, off, bfloat16",
    ),
    ({"class_weights": "auto"}, r"--class-weights auto: unknown. Pass one of balanced, none"),
    ({"image_size": 7}, r"--image-size 7: out of range. Pass 8 to 2048."),
    ({"image_size": 0}, r"--image-size 0: out of range. Pass 8 to 2048."),
    ({"image_size": 2049}, r"--image-size 2049: out of range. Pass 8 to 2048."),
    ({"views": 0}, r"--views 0: out of range. Pass 1 to 1000."),
    ({"views": 1001}, r"--views 1001: out of range. Pass 1 to 1000."),
    ({"folds": 2, "repeats": 0}, r"--repeats 0: out of range. Pass 1 to 1000."),
    ({"epochs": 0}, r"--epochs 0: out of range. Pass 1 to 100000."),
    ({"batch_size": 0}, r"--batch-size 0: out of range. Pass 1 to 1000000."),
    ({"early_stopping": -1}, r"--early-stopping -1: out of range. Pass 0 to 100000."),
    ({"fine_tune_epochs": -1}, r"--fine-tune-epochs -1: out of range. Pass 0 to 100000."),
    ({"seed": -1}, r"--seed -1: out of range. Pass 0 to 2147483647."),
    ({"seed": 2**31}, r"--seed 2147483648: out of range. Pass 0 to 2147483647."),
    ({"dropout": 1.0}, r"--dropout 1.0: out of range. Pass a number from 0 to less than 1."),
    ({"dropout": -0.1}, r"--dropout -0.1: out of range. Pass a number from 0 to less than 1."),
    (
        {"dropout": float("nan")},
        r"--dropout nan: out of range. Pass a number from 0",
    ),
    ({"test_fraction": 0.0}, r"--test-fraction 0.0: out of range. Pass a number between 0 and 1"),
    ({"test_fraction": 1.0}, r"--test-fraction 1.0: out of range. Pass a number between 0 and 1"),
    (
        {"test_fraction": float("nan")},
        r"--test-fraction nan: out of range. Pass a number",
    ),
    ({"learning_rate": 0.0}, r"--learning-rate 0.0: out of range. Pass a number above 0."),
    ({"learning_rate": float("nan")}, r"--learning-rate nan: out of range. Pass a number above 0."),
    ({"learning_rate": float("inf")}, r"--learning-rate inf: out of range. Pass a number above 0."),
    (
        {"fine_tune_learning_rate": -1.0},
        r"--fine-tune-learning-rate -1.0: out of range",
    ),
    ({"folds": 1}, r"--folds 1: out of range. Pass 2 or more, or 0 for a single split"),
    ({"folds": -3}, r"--folds -3: out of range. Pass 2 or more, or 0 for a single split"),
    ({"repeats": 2}, r"--repeats 2: only a cross-validation can be repeated. Add --folds 5"),
    ({"window": "lung"}, r"--window lung: unknown. Pass brain .*subdural .*CENTER/WIDTH in HU"),
    ({"window": "brain,bone"}, r"--window brain,bone: 2 windows. Pass one, or three"),
    ({"upright": True, "crop_head": False}, r"--upright needs the head crop"),
    ({"fine_tune_from": "x"}, r"--fine-tune-from LAYER.*must be given together. Received: x and 0"),
    (
        {"fine_tune_epochs": 3},
        r"--fine-tune-from LAYER.*must be given together. Received: None and 3",
    ),
    ({"solver": "sgd"}, r"--solver sgd: unknown. Pass one of auto, adam, lbfgs"),
    ({"l2": 0.0}, r"--l2 0.0: out of range. Pass a number above 0."),
    ({"l2": -1.0}, r"--l2 -1.0: out of range. Pass a number above 0."),
    ({"l2": float("nan")}, r"--l2 nan: out of range. Pass a number above 0."),
    ({"l2": float("inf")}, r"--l2 inf: out of range. Pass a number above 0."),
    ({"operating_point": "best"}, r"--operating-point"),
    (
        {"operating_point": "youden", "feature_cache": False},
        r"--operating-point youden: this criterion needs out-of-fold predictions.*Add --folds 5",
    ),
    (
        {"solver": "lbfgs", "feature_cache": False},
        r"--solver lbfgs .*Received: --no-feature-cache\. .*--solver adam",
    ),
    (
        {"solver": "lbfgs", "dropout": 0.5, "early_stopping": 3},
        r"--solver lbfgs .*Received: --dropout 0.5, --early-stopping 3\. .*Leave this out",
    ),
]


class TestInvalid:
    @pytest.mark.parametrize("values, message", INVALID, ids=[str(values) for values, _ in INVALID])
    def test_is_rejected(self, values, message):
        with pytest.raises(OptionError, match=message):
            FitSettings(**{"backbone": "tiny", **values})

    def test_rejects_a_missing_weights_file(self):
        with pytest.raises(WeightsError, match="--weights no.h5: no such file"):
            FitSettings(backbone="tiny", weights="no.h5")

    def test_errors_are_the_packages_own(self):
        assert issubclass(OptionError, HemorrhageError) and OptionError.exit_code == 2


def test_the_docstring_lists_every_setting_with_its_default():
    text = " " + " ".join(FitSettings.__doc__.split("Attributes:")[1].split("Raises:")[0].split())
    for field in fields(FitSettings):
        description = re.search(
            rf" {field.name}: (.*?)(?= \w+: (?:str|int|float|bool|tuple)\b|$)", text
        )
        assert description, field.name
        default = (
            json.dumps(field.default) if isinstance(field.default, str) else str(field.default)
        )
        default = default.replace("'", '"')
        assert f"Defaults to {default}" in description.group(1), field.name
