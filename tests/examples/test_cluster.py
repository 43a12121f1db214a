"""The cluster examples, run with stand-ins for hemorrhage-tf, srun and scontrol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hemorrhage_tf.training.distributed.cluster_spec import read_cluster

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "cluster"

# Prints its arguments, and exits with the requested code.
FIT = f"""#!{sys.executable}
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print(json.dumps({{"arguments": sys.argv[1:], "TF_CONFIG": os.environ["TF_CONFIG"]}}), flush=True)
print("working", file=sys.stderr, flush=True)
if os.environ.get("HANG"):
    time.sleep(60)
sys.exit(int(os.environ.get(f"EXIT_{{index}}", 0)))
"""

SCONTROL = """#!/bin/bash
if [[ $1 == requeue ]]; then
    echo "$2" > requeued
    exit
fi
[[ "$*" == "show hostnames node[1-3]" ]] || exit 9
printf 'node%d\\n' 1 2 3
"""

# Runs all tasks one after another.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for SLURM_PROCID in 0 1 2; do
    export SLURM_PROCID
    "$@" & task=$!
    trap 'kill -TERM "$task"' TERM
    wait "$task" || { code=$?; wait "$task"; exit "$code"; }
done
"""


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """Put the stand-ins on the path, and work in an empty folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"hemorrhage-tf": FIT, "scontrol": SCONTROL, "srun": SRUN}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def calls(output: str) -> list[dict]:
    return [json.loads(line.partition("{")[1] + line.partition("{")[2]) for line in lines(output)]


def lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if "{" in line]


class TestLocal:
    def run(self, *arguments: str, **environment: str):
        return subprocess.run(
            [sys.executable, EXAMPLES / "local.py", *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_each_worker_gets_its_index_and_prefixes_its_lines(self, programs):
        done = self.run("3", "data", "--out", "run")
        assert done.returncode == 0, done.stderr
        addresses = {}
        for line, call in zip(lines(done.stdout), calls(done.stdout), strict=True):
            assert call["arguments"] == [
                *["fit", "data", "--out", "run"],
                *["--strategy", "multiworker"],
            ]
            spec = read_cluster(call)
            assert line.startswith(f"[{spec.index}] ")
            addresses[spec.index] = spec.addresses
        assert sorted(addresses) == [0, 1, 2]
        assert len(set(addresses.values())) == 1
        assert len(set(addresses[0])) == 3
        assert sorted(done.stderr.splitlines()) == [f"[{index}] working" for index in range(3)]

    def test_returns_the_highest_exit_code(self, programs):
        assert self.run("3", "data", EXIT_1="2", EXIT_2="1").returncode == 2

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_forwards_signals(self, programs, number):
        process = subprocess.Popen(
            [sys.executable, EXAMPLES / "local.py", "2", "data"],
            env={**os.environ, "HANG": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for _ in range(2):
                assert "working" in process.stderr.readline()
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 128 + number, errors

    @pytest.mark.parametrize("arguments", [[], ["2"], ["head_ct", "2"], ["0", "head_ct"]])
    def test_prints_its_usage(self, programs, arguments):
        done = self.run(*arguments)
        assert done.returncode == 2
        assert "python local.py 2 head_ct" in done.stderr


class TestSlurm:
    SCRIPT = EXAMPLES / "slurm.sh"
    JOB = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[1-3]"}

    def test_is_bash(self):
        subprocess.run(["bash", "-n", self.SCRIPT], check=True)

    def test_each_task_gets_its_index(self, programs):
        for index in range(3):
            done = subprocess.run(
                ["bash", "-c", 'source "$1" && tf_config', "bash", self.SCRIPT],
                env={**os.environ, **self.JOB, "SLURM_PROCID": str(index)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            spec = read_cluster({"TF_CONFIG": done.stdout})
            assert spec.index == index
            assert spec.addresses == ("node1:23456", "node2:23456", "node3:23456")

    def start(self, *arguments: str, **environment: str):
        names = {"DATA": "data", "RUN": "runs/first"}
        return subprocess.Popen(
            ["bash", self.SCRIPT, *arguments],
            env={**os.environ, **self.JOB, **names, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @pytest.mark.parametrize("is_resumed", [False, True])
    def test_starts_or_resumes(self, programs, tmp_path, is_resumed):
        if is_resumed:
            (tmp_path / "runs" / "first.checkpoint").mkdir(parents=True)
        out, errors = self.start("--folds", "5").communicate(timeout=30)
        expected = [
            *["fit", "data", "--resume" if is_resumed else "--out", "runs/first"],
            *["--cache", "runs/cache", "--strategy", "multiworker", "--folds", "5"],
        ]
        assert [call["arguments"] for call in calls(out)] == [expected] * 3, errors
        assert [read_cluster(call).index for call in calls(out)] == [0, 1, 2]
        assert not (tmp_path / "requeued").exists()

    def test_does_not_retry_a_failure(self, programs, tmp_path):
        process = self.start(EXIT_0="2")
        process.communicate(timeout=30)
        assert process.returncode == 2
        assert not (tmp_path / "requeued").exists()

    def test_returns_to_the_queue_at_its_time_limit(self, programs, tmp_path):
        process = self.start(HANG="1")
        try:
            assert process.stderr.readline() == "working\n"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 143, errors
        assert (tmp_path / "requeued").read_text() == "123456\n"

    def test_names_a_missing_variable(self, programs):
        process = self.start(DATA="")
        assert "DATA" in process.communicate(timeout=30)[1]
        assert process.returncode != 0


@pytest.fixture(scope="module")
def parts() -> dict[str, dict]:
    """The parts of the Kubernetes example by their kind."""
    with open(EXAMPLES / "kubernetes.yaml") as file:
        return {part["kind"]: part for part in yaml.safe_load_all(file)}


@pytest.fixture(scope="module")
def container(parts) -> dict:
    return parts["Job"]["spec"]["template"]["spec"]["containers"][0]


class TestKubernetes:
    def variables(self, container) -> dict[str, str]:
        return {each["name"]: each["value"] for each in container["env"]}

    def test_the_parts_refer_to_each_other(self, parts, container):
        name = parts["Job"]["metadata"]["name"]
        job, pod = parts["Job"]["spec"], parts["Job"]["spec"]["template"]["spec"]
        assert job["completionMode"] == "Indexed"
        workers = int(self.variables(container)["WORKERS"])
        assert job["completions"] == job["parallelism"] == workers
        service = parts["Service"]
        assert service["metadata"]["name"] == pod["subdomain"]
        assert service["spec"]["clusterIP"] == "None"  # headless, in Kubernetes' own spelling
        assert service["spec"]["selector"] == {"job-name": name}
        claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
        assert parts["PersistentVolumeClaim"]["metadata"]["name"] == claim
        assert parts["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
        mount = container["volumeMounts"][0]
        assert mount["name"] == pod["volumes"][0]["name"]
        for variable in ("DATA", "RUN", "CACHE"):
            assert self.variables(container)[variable].startswith(mount["mountPath"] + "/")

    @pytest.mark.parametrize("index", [0, 2])
    @pytest.mark.parametrize("is_resumed", [False, True])
    def test_runs_the_command(self, programs, tmp_path, parts, container, index, is_resumed):
        if is_resumed:
            (tmp_path / "run.checkpoint").mkdir()
        variables = self.variables(container) | {"WORKERS": "3", "RUN": "run"}
        done = subprocess.run(
            [*container["command"], *container["args"]],
            env={**os.environ, **variables, "JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (call,) = calls(done.stdout)
        spec = read_cluster(call)
        name, domain = parts["Job"]["metadata"]["name"], parts["Service"]["metadata"]["name"]
        port = container["ports"][0]["containerPort"]
        assert spec.addresses == tuple(f"{name}-{each}.{domain}:{port}" for each in range(3))
        assert spec.index == index
        assert call["arguments"] == [
            *["fit", variables["DATA"], "--resume" if is_resumed else "--out", "run"],
            *["--cache", variables["CACHE"], "--strategy", "multiworker"],
        ]
