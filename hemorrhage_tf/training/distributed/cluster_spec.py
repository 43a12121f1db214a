"""The workers of a cluster and this process's place among them, read from `TF_CONFIG`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hemorrhage_tf.core.errors import OptionError

VARIABLE = "TF_CONFIG"

EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)

_QUOTED_LENGTH = 200


@dataclass(frozen=True)
class ClusterSpec:
    """The workers of a cluster, and this process's place among them.

    Attributes:
        chiefs: The address of the task of type "chief"; empty if there is none.
        workers: The addresses of the tasks of type "worker".
        task_type: The type of this process, "chief" or "worker".
        task_index: The index of this process among those of its type.
    """

    chiefs: tuple[str, ...]
    workers: tuple[str, ...]
    task_type: str
    task_index: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of every worker, the chief first."""
        return self.chiefs + self.workers

    @property
    def count(self) -> int:
        """Number of workers, including the chief."""
        return len(self.addresses)

    @property
    def index(self) -> int:
        """The position of this process in `addresses`."""
        return self.task_index + (len(self.chiefs) if self.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run: the chief, or worker 0 if there is no chief."""
        return self.index == 0

    def name_of(self, index: int) -> str:
        """Return the name of a worker for messages, such as "worker 1 (10.0.0.2:2222)"."""
        role = "the chief" if index == 0 else f"worker {index}"
        return f"{role} ({self.addresses[index]})"


def read_cluster(environ: Mapping[str, str] = os.environ) -> ClusterSpec:
    """Read the cluster from `TF_CONFIG`, without importing TensorFlow.

    Args:
        environ: The environment variables. Default: those of this process.

    Raises:
        OptionError: The variable is not set, or does not describe a cluster and a task in it.
    """
    text = environ.get(VARIABLE, "")
    if not text.strip():
        raise OptionError(
            f"--strategy multiworker: the variable {VARIABLE} is not set. It names all workers and "
            f"this process's place among them, for example {VARIABLE}='{EXAMPLE}'. Set it for each "
            "worker; examples/cluster does so on one machine, under Slurm and in Kubernetes."
        )
    try:
        return _parse_cluster(text)
    except ValueError as error:
        quoted = text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "..."
        raise OptionError(
            f"{VARIABLE}: {error}. Received: {quoted}\nA valid value is, for example: {EXAMPLE}\n"
            "Correct the variable and start this worker again."
        ) from None


def _parse_cluster(text: str) -> ClusterSpec:
    """Parse the value of `TF_CONFIG`; a ValueError names the rule that it breaks."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError('it must be an object with "cluster" and "task"')
    chiefs, workers = _parse_addresses(config.get("cluster"))
    task = config.get("task")
    if not isinstance(task, dict):
        raise ValueError('"task" must be an object with "type" and "index"')
    task_type, index = task.get("type"), task.get("index")
    if task_type not in ("chief", "worker"):
        raise ValueError(f'the task\'s "type" is {json.dumps(task_type)}, not "chief" or "worker"')
    members = chiefs if task_type == "chief" else workers
    # In Python a boolean is an integer, but it is no index.
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(members):
        valid = f"0 to {len(members) - 1}" if members else "none, for there is no such task"
        raise ValueError(f'the task\'s "index" is {json.dumps(index)}, not of {valid}')
    return ClusterSpec(chiefs, workers, task_type, index)


def _parse_addresses(jobs: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(jobs, dict) or not jobs:
        raise ValueError('"cluster" must be an object with the addresses of "worker"')
    other = sorted(set(jobs) - {"chief", "worker"})
    if other:
        raise ValueError(
            f'tasks of type "{other[0]}" are not supported; only "chief" and "worker" are'
        )
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise ValueError(f'"{job}" must be a list of addresses')
        for address in addresses:
            if not _is_address(address):
                raise ValueError(
                    f'the address {json.dumps(address)} is not of the form "host:port"'
                )
    chiefs, workers = tuple(jobs.get("chief", ())), tuple(jobs.get("worker", ()))
    if len(chiefs) > 1:
        raise ValueError(f'"chief" must have one address, not {len(chiefs)}')
    addresses = chiefs + workers
    if not addresses:
        raise ValueError('"cluster" has no address')
    repeated = [address for address in addresses if addresses.count(address) > 1]
    if repeated:
        raise ValueError(f"the address {repeated[0]} is listed twice")
    return chiefs, workers


def _is_address(address: object) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
