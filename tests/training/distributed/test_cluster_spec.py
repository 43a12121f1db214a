from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from pytest import param

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.training.distributed.cluster_spec import VARIABLE, read_cluster

TWO = {"worker": ["a:1", "b:2"]}


def config(cluster=TWO, kind="worker", index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


class TestReadCluster:
    def test_reads_workers_without_a_chief(self):
        for index in range(2):
            spec = read_cluster({VARIABLE: config(index=index)})
            assert (spec.index, spec.count, spec.is_chief) == (index, 2, index == 0)
            assert spec.addresses == ("a:1", "b:2")

    def test_the_chief_comes_first(self):
        cluster = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
        for kind, index, expected in [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)]:
            spec = read_cluster({VARIABLE: config(cluster, kind, index)})
            assert (spec.index, spec.count, spec.is_chief) == (expected, 3, kind == "chief")
            assert spec.addresses == ("c:3", "a:1", "b:2")
        assert spec.name_of(0) == "the chief (c:3)"
        assert spec.name_of(2) == "worker 2 (b:2)"

    @pytest.mark.parametrize(
        "text, reason",
        [
            param("{", "not JSON", id="malformed"),
            param("[]", "must be an object", id="no object"),
            param('{"task": {"type": "worker", "index": 0}}', '"cluster"', id="no cluster"),
            param(json.dumps({"cluster": TWO}), '"task" must be', id="no task"),
            param(config({**TWO, "ps": ["c:3"]}), '"ps"', id="ps"),
            param(config({**TWO, "evaluator": ["c:3"]}), '"evaluator"', id="evaluator"),
            param(config(kind="ps"), '"type" is "ps"', id="task of another type"),
            param(config(kind=None), '"type" is null', id="task of no type"),
            param(config(index=2), "0 to 1", id="index too large"),
            param(config(index=-1), "0 to 1", id="index below zero"),
            param(config(index=None), "0 to 1", id="no index"),
            param(config(index=True), "0 to 1", id="a boolean"),
            param(config(index="0"), "0 to 1", id="index as text"),
            param(config(kind="chief"), "no such task", id="no chief there"),
            param(config({"worker": ["a:1", "a:1"]}), "a:1 is listed twice", id="twice"),
            param(config({"worker": ["a:1"], "chief": ["a:1"]}), "twice", id="chief as worker"),
            param(config({**TWO, "chief": ["c:3", "d:4"]}), "one address", id="two chiefs"),
            param(config({"worker": "a:1"}), "must be a list", id="no list"),
            param(config({"worker": []}), "no address", id="empty"),
            param(config({"worker": ["a"]}), '"a" is not of the form', id="no port"),
            param(config({"worker": ["a:b"]}), '"a:b" is not of the form', id="port is no number"),
            param(config({"worker": ["a:70000"]}), '"a:70000"', id="port too large"),
            param(config({"worker": [":1"]}), '":1" is not of the form', id="no host"),
            param(config({"worker": [5]}), "5 is not of the form", id="no text"),
        ],
    )
    def test_names_the_broken_rule(self, text, reason):
        with pytest.raises(OptionError) as error:
            read_cluster({VARIABLE: text})
        message = str(error.value)
        assert reason in message
        assert f"Received: {text}\n" in message
        assert '"10.0.0.1:2222"' in message
        assert "start this worker again" in message

    @pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: " "}])
    def test_rejects_a_missing_variable(self, environ):
        with pytest.raises(OptionError, match="TF_CONFIG is not set.*for example.*Set it"):
            read_cluster(environ)

    def test_shortens_a_long_value(self):
        with pytest.raises(OptionError) as error:
            read_cluster({VARIABLE: config({"worker": [f"host{i}:1" for i in range(999)] + ["x"]})})
        assert len(str(error.value)) < 700

    def test_does_not_import_tensorflow(self):
        script = (
            "import sys; from hemorrhage_tf.training.distributed.cluster_spec import read_cluster; "
            "read_cluster(); sys.exit('tensorflow' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, VARIABLE: config()}
        )
        assert done.returncode == 0
