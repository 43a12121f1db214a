"""Which workers a cluster has and which of them this process is, read from `TF_CONFIG`."""

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
    """The workers of a cluster, and which of them this process is.

    Attributes:
        chiefs: the address of the one task of type "chief", or nothing.
        workers: the addresses of the tasks of type "worker".
        task_type: "chief" or "worker", of this process.
        task_index: of this process among those of its type.
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
        """How many workers there are, the chief among them."""
        return len(self.addresses)

    @property
    def index(self) -> int:
        """This process's place in `addresses`."""
        return self.task_index + (len(self.chiefs) if self.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run: the chief does, or else worker 0."""
        return self.index == 0

    def name_of(self, index: int) -> str:
        """Names a worker in a message, such as "worker 1 (10.0.0.2:2222)"."""
        role = "the chief" if index == 0 else f"worker {index}"
        return f"{role} ({self.addresses[index]})"


def read_cluster(environ: Mapping[str, str] = os.environ) -> ClusterSpec:
    """Reads the cluster from `TF_CONFIG`, without TensorFlow.

    Args:
        environ: where the variable is looked up; the process's environment by default.

    Returns:
        The cluster.

    Raises:
        OptionError: the variable is absent, or does not describe a cluster and a task in it.
    """
    text = environ.get(VARIABLE, "")
    if not text.strip():
        raise OptionError(
            f"--strategy multiworker: the variable {VARIABLE} is not set. It says which workers "
            f"there are and which one this is, for example {VARIABLE}='{EXAMPLE}'. Set it for "
            "each worker; examples/cluster does it on one machine, under Slurm and in Kubernetes"
        )

    def refusal(reason: str) -> OptionError:
        quoted = text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "..."
        return OptionError(
            f"{VARIABLE}: {reason}. Received: {quoted}\nAccepted is, for example: {EXAMPLE}\n"
            f"Correct the variable and start this worker again"
        )

    try:
        config = json.loads(text)
    except ValueError as error:
        raise refusal(f"it is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise refusal('it must be an object with "cluster" and "task"')
    jobs = config.get("cluster")
    if not isinstance(jobs, dict) or not jobs:
        raise refusal('"cluster" must be an object with the addresses of "worker"')
    other = sorted(set(jobs) - {"chief", "worker"})
    if other:
        raise refusal(f'tasks of type "{other[0]}" take no part; only "chief" and "worker" do')
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise refusal(f'"{job}" must be a list of addresses')
        for address in addresses:
            if not _is_address(address):
                raise refusal(f'the address {json.dumps(address)} is not of the form "host:port"')
    chiefs, workers = tuple(jobs.get("chief", ())), tuple(jobs.get("worker", ()))
    if len(chiefs) > 1:
        raise refusal(f'"chief" must have one address, not {len(chiefs)}')
    addresses = chiefs + workers
    if not addresses:
        raise refusal('"cluster" has no address')
    twice = [address for address in addresses if addresses.count(address) > 1]
    if twice:
        raise refusal(f"the address {twice[0]} is there twice")
    task = config.get("task")
    if not isinstance(task, dict):
        raise refusal('"task" must be an object with "type" and "index"')
    task_type, index = task.get("type"), task.get("index")
    if task_type not in ("chief", "worker"):
        raise refusal(f'the task\'s "type" is {json.dumps(task_type)}, not "chief" or "worker"')
    members = chiefs if task_type == "chief" else workers
    # Booleans are integers to Python, but no index.
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(members):
        accepted = f"0 to {len(members) - 1}" if members else "none, for there is no such task"
        raise refusal(f'the task\'s "index" is {json.dumps(index)}, not of {accepted}')
    return ClusterSpec(chiefs, workers, task_type, index)


def _is_address(address: object) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
