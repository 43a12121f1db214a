"""The options of a fit, as given or as restored from a checkpoint."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.models import run_files
from hemorrhage_tf.models.backbones import EMBEDDED_BACKBONE, fingerprint
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.metadata import versions
from hemorrhage_tf.training.checkpoint import checkpoint_folder, read_checkpoint_header
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.verbs.arguments import create_settings
from hemorrhage_tf.verbs.results import Run


@dataclass(frozen=True)
class FitRequest:
    """The options of a fit, except where it reads and writes; see `fit`."""

    data: str | Path | Manifest | None = None
    external: str | Path | Manifest | None = None
    overwrite: bool = False
    positive: str | None = None
    target: str | None = None
    anonymize: bool = True
    skip_invalid: bool = False
    prevalence: float | None = None
    audit: bool = True
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def uses_phantoms(self) -> bool:
        """Whether no data was given, so that the fit trains on phantoms."""
        return self.data is None

    def fit_settings(self) -> FitSettings:
        """Return the checked settings.

        With phantoms as data the default backbone is the embedded one, without a prior. Nor is
        there a prior for the labels of one subtype, since the embedded head knows any hemorrhage.

        Raises:
            OptionError: A setting is unknown, or its value is not accepted.
        """
        values = self.settings
        if self.uses_phantoms:
            values = {"backbone": EMBEDDED_BACKBONE, "prior": "none", **values}
        if (self.target or "").strip().lower() in SUBTYPES:
            values = {"prior": "none", **values}
            self._check_subtype_target(values)
        settings = create_settings(FitSettings, values)
        if self.external is not None and not settings.trains_quickly:
            raise OptionError(
                f"--external {self.external}: needs cached features of a frozen backbone. "
                "Received: --no-feature-cache or --fine-tune-epochs. Leave out --external, and "
                "evaluate the finished model: hemorrhage-tf evaluate DATA --model RUN."
            )
        return settings

    def _check_subtype_target(self, values: dict[str, Any]) -> None:
        for option, value in (("prior", values["prior"]), ("phantoms", values.get("phantoms"))):
            if value not in ("none", None, 0):
                raise OptionError(
                    f"--{option} {value}: the embedded head and the labels of phantoms are those "
                    f"of any hemorrhage. Received: --target {self.target}. Leave out one of them."
                )

    def to_dict(
        self, path_names_patient: bool, external_names_patient: bool = False
    ) -> dict[str, Any]:
        """Return plain values for the checkpoint; paths that name a patient are left out."""
        paths = {
            name: str(Path(value).resolve())
            if isinstance(value, str | Path) and not names_patient
            else None
            for name, value, names_patient in (
                ("data", self.data, path_names_patient),
                ("external", self.external, external_names_patient),
            )
        }
        return {**vars(self), **paths, "uses_phantoms": self.uses_phantoms}

    def to_log(self, is_resumed: bool) -> dict[str, Any]:
        """Return the values for the event log, which names no data."""
        options = dict(vars(self))
        del options["data"], options["external"]
        return {**options.pop("settings"), **options, "resumed": is_resumed}

    def identity(
        self,
        slices: SliceIndex,
        settings: FitSettings,
        subtypes: np.ndarray | None = None,
        external: SliceIndex | None = None,
    ) -> dict[str, Any]:
        """Return everything that must be the same for a resumed fit to have the same result."""
        identity = {_option(name): value for name, value in settings.to_dict().items()}
        for name in ("positive", "target", "skip_invalid", "prevalence", "audit"):
            identity[_option(name)] = getattr(self, name)
        identity |= {f"{name} version": version for name, version in versions().items()}
        identity["slices"] = slices.data_hash
        if external is not None:
            identity["slices of --external"] = external.data_hash
        if len(slices.scans):
            identity["scans of the slices"] = slices.scans.digest
        if subtypes is not None:
            digest = hashlib.blake2b(subtypes.tobytes(), digest_size=16).hexdigest()
            identity["subtypes of the slices"] = digest
        names = "\n".join(
            f"{name} {key}" for name, key in zip(slices.names, slices.hashes, strict=True)
        )
        identity["names and order of the slices"] = fingerprint({"names": names})[:32]
        for backbone in settings.backbones:
            if Path(backbone.weights).is_file():
                with open(backbone.weights, "rb") as file:
                    digest = hashlib.file_digest(file, "blake2b").hexdigest()
                identity[f"weights of {backbone.spec.name}"] = digest[:32]
        if settings.prior == "embedded":
            head = {name: values.tolist() for name, values in read_embedded().head.items()}
            identity["head of the embedded model"] = fingerprint(head)[:32]
        return identity


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def restore_request(run: Path, given: FitRequest, out: str | Path | None) -> FitRequest:
    """Return the options that a stopped fit was started with.

    Args:
        run: The run folder of the stopped fit.
        given: The options of the resuming call; those that are set must be the original ones.
        out: The run folder that the call names as well, or None.

    Raises:
        OptionError: There is no checkpoint, an option differs, or the data must be named again.
    """
    header = read_checkpoint_header(run)
    former = run.with_name(f"{run.name}.unfinished")
    if header is None and former.is_dir():
        raise OptionError(
            f"--resume {run}: {former} is from an earlier version and cannot be resumed. Remove it "
            "and start the fit again; features in the cache are used again."
        )
    if header is None:
        raise OptionError(
            f"--resume {run}: there is no checkpoint {checkpoint_folder(run)}, which a stopped fit "
            f"leaves next to its run folder. Start a fit: hemorrhage-tf fit DATA --out {run}"
        )
    options = dict(header.options)
    uses_phantoms = options.pop("uses_phantoms")
    original = options["settings"]
    data = given.data
    if isinstance(data, str | Path):
        data = str(Path(data).resolve())
    if isinstance(data, Manifest) or (options["data"] is None and not uses_phantoms):
        options["data"] = data  # the checkpoint does not store it
    external = given.external
    if isinstance(external, str | Path):
        external = str(Path(external).resolve())
    if isinstance(external, Manifest) or options["external"] is None:
        options["external"] = external  # that it is the same set is checked later
    differences = [
        (name, original.get(name, "the default"), value)
        for name, value in given.settings.items()
        if json.loads(json.dumps(value)) != original.get(name, FitSettings.default(name))
    ]
    unset = vars(FitRequest(settings=given.settings))
    differences += [
        (name, options[name], value)
        for name, value in vars(replace(given, data=data, external=external)).items()
        if value not in (unset[name], options[name])
    ]
    if out is not None and Path(out).resolve() != run.resolve():
        differences.append(("out", str(run), out))
    if differences:
        lines = [
            f"  {name.replace('_', '-')}: {before} before, {now} now"
            for name, before, now in differences
        ]
        raise OptionError(
            f"--resume {run}: the fit was started with different options; the result would "
            "differ:\n"
            + "\n".join(lines)
            + "\nLeave these options out, or start a new fit with another --out."
        )
    if options["data"] is None and not uses_phantoms:
        raise OptionError(f"--resume {run}: the path of the data was not stored. Pass DATA again.")
    return FitRequest(**options)


def read_finished_run(run: Path) -> Run | None:
    """Return a run that is already complete, and remove what is left of its checkpoint.

    Raises:
        OptionError: The run folder is a recalibrated model, which no fit wrote.
    """
    if not run_files.is_run_folder(run):
        return None
    config = json.loads((run / run_files.CONFIG_FILE).read_text(encoding="utf-8"))
    if "settings" not in config:
        raise OptionError(
            f"--resume {run}: a recalibrated model, not a fit. Pass the run folder of a fit, or "
            "run hemorrhage-tf recalibrate again."
        )
    header = read_checkpoint_header(run)
    if header is not None:
        if header.id != config.get("id"):
            return None  # the stopped fit was going to replace this run
        shutil.rmtree(checkpoint_folder(run), ignore_errors=True)
    metrics = json.loads((run / run_files.METRICS_FILE).read_text(encoding="utf-8"))
    return Run(run, config, metrics)
