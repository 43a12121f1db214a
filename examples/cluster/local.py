#!/usr/bin/env python3
"""Run `hemorrhage-tf fit --strategy multiworker` as several workers on this machine.

    python local.py 2 head_ct --out runs/both

The first argument is the number of workers; the others are passed to `fit`. Each line of output
begins with the number of its worker. If a worker fails, the others are stopped. The exit code is
the highest exit code of the workers. This program needs only Python's standard library.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import IO

GRACE_SECONDS = 20.0  # before workers get SIGTERM after a failure, and again before SIGKILL


def free_addresses(count: int) -> list[str]:
    """Return different addresses on this machine whose ports are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def start(command: list[str], addresses: list[str], index: int) -> subprocess.Popen:
    """Start one worker in its own session, so that signals reach it only through this program."""
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return subprocess.Popen(
        command,
        env={**os.environ, "TF_CONFIG": json.dumps(config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    )


def copy_lines(source: IO[str], target: IO[str], index: int) -> None:
    """Copy the output of a worker, and put its number before each line."""
    for line in source:
        target.write(f"[{index}] {line}" if line.endswith("\n") else f"[{index}] {line}\n")
        target.flush()


def main(arguments: list[str]) -> int:
    """Start the workers, wait for them, and return the highest exit code."""
    if len(arguments) < 2 or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print(__doc__, file=sys.stderr)
        return 2
    program = shutil.which("hemorrhage-tf")
    if program is None:
        print("hemorrhage-tf is not installed: pip install hemorrhage-tf", file=sys.stderr)
        return 2
    count = int(arguments[0])
    command = [program, "fit", *arguments[1:], "--strategy", "multiworker"]
    addresses = free_addresses(count)
    workers: list[subprocess.Popen] = []

    def forward_signal(number: int, _: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward_signal)
    copiers = []
    for index in range(count):
        worker = start(command, addresses, index)
        workers.append(worker)
        for source, target in ((worker.stdout, sys.stdout), (worker.stderr, sys.stderr)):
            copiers.append(threading.Thread(target=copy_lines, args=(source, target, index)))
            copiers[-1].start()

    failed_at: float | None = None
    is_terminated = False
    while any(worker.poll() is None for worker in workers):
        if failed_at is None and any(worker.poll() for worker in workers):
            # Workers that notice the loss end by themselves.
            failed_at = time.monotonic()
        if failed_at is not None:
            waited = time.monotonic() - failed_at
            if waited > GRACE_SECONDS and not is_terminated:
                is_terminated = True
                forward_signal(signal.SIGTERM, None)
            if waited > 2 * GRACE_SECONDS:
                forward_signal(signal.SIGKILL, None)
        time.sleep(0.1)
    for copier in copiers:
        copier.join()
    # After a signal, Python returns its negative number; a shell would return 128 more.
    codes = [worker.returncode for worker in workers]
    return max(code if code >= 0 else 128 - code for code in codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
