"""The parent process: feed inputs to a worker, and count crashes, hangs and other failures."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fuzzing.corpus import write_corpus
from fuzzing.mutator import Mutator

SCRIPT = Path(__file__).resolve().parents[1] / "fuzz_readers.py"


# An input hangs after this many seconds of processor time, or PATIENCE times as long by the clock,
# since other programs may use the processor too.
HANG_SECONDS, PATIENCE = 20, 6
BATCH = 250
COLUMNS = ("inputs", "read", "refused", "crashed", "hung", "over memory", "other error")


@dataclass
class Worker:
    """A worker process, and its output that was not parsed yet."""

    process: subprocess.Popen
    errors: Path
    output: bytes = b""

    @classmethod
    def start(cls, corpus: Path, scratch: Path, seed: int) -> "Worker":
        """Start a worker, and wait until it is ready."""
        errors = scratch / "stderr.txt"
        with open(errors, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "--worker", str(corpus), str(scratch), str(seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        worker = cls(process, errors)
        if (worker.listen(120) or {}).get("ready") is None:
            process.kill()
            sys.exit(f"the worker did not start:\n{errors.read_text(errors='replace')}")
        return worker

    def listen(self, seconds: float) -> dict | None:
        """Return its next result, or None if it has ended; raise TimeoutError if it is late."""
        until = time.monotonic() + seconds
        while b"\n" not in self.output:
            stream = self.process.stdout
            left = until - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                return None
            self.output += chunk
        line, _, self.output = self.output.partition(b"\n")
        return json.loads(line)

    def wait_for_result(self) -> dict | None:
        """Return the outcome of an input, as `listen` does."""
        begin = self._processor_seconds()
        for _ in range(PATIENCE):
            try:
                return self.listen(HANG_SECONDS)
            except TimeoutError:
                if self._processor_seconds() - begin > HANG_SECONDS:
                    raise
        raise TimeoutError

    def _processor_seconds(self) -> float:
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def submit(self, numbers: range) -> None:
        """Send it the numbers of inputs."""
        self.process.stdin.write("".join(f"{number}\n" for number in numbers).encode())
        self.process.stdin.flush()

    def stop(self) -> str:
        """End it, and return the end of its standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)  # prints its stack
            time.sleep(0.5)
            self.process.kill()
        status = self.process.wait()
        return f"exit status {status}\n{self.errors.read_text(errors='replace')[-6000:]}"


@dataclass
class Tally:
    """The outcomes of the inputs of a format."""

    counts: dict[str, int]
    worst_seconds: float = 0.0
    peak: float = 0.0

    def row(self, name: str) -> str:
        """Format a line of the table."""
        numbers = "".join(f"{self.counts[column]:>12}" for column in COLUMNS)
        return f"{name:<16}{numbers}{self.worst_seconds:>10.1f}{self.peak:>10.0f}"


class Fuzz:
    """A fuzzing run, and its counts.

    Args:
        folder: A folder for the corpus and the inputs.
        keep: A folder for inputs that failed, or None.
        seed: Random seed.
        limit: Limit on the memory, in MiB.
    """

    def __init__(self, folder: Path, keep: Path | None, seed: int, limit: float) -> None:
        self.corpus, self.scratch = folder / "corpus", folder / "scratch"
        self.corpus.mkdir()
        self.scratch.mkdir()
        write_corpus(self.corpus)
        self.keep, self.seed, self.limit = keep, seed, limit
        self.tallies: dict[str, Tally] = {}
        self.steps = {"header": 0.0, "slice": 0.0, "crop_head": 0.0}

    def run(self, numbers: range) -> None:
        """Run all inputs, with a new worker after each crash or hang."""
        worker, begin = None, time.monotonic()
        at = numbers.start
        try:
            while at < numbers.stop:
                worker = worker or Worker.start(self.corpus, self.scratch, self.seed)
                batch = range(at, min(at + BATCH, numbers.stop))
                worker.submit(batch)
                for number in batch:
                    at = number + 1
                    if not self._follow(worker, number):
                        worker = None
                        break
                if at % 2000 < BATCH:
                    seconds = time.monotonic() - begin
                    print(f"  {at - numbers.start} inputs, {seconds:.0f} s", flush=True)
        finally:
            if worker is not None:
                worker.process.kill()
                worker.process.wait()

    def _follow(self, worker: Worker, number: int) -> bool:
        """Follow one input; return whether the worker can continue."""
        try:
            started = worker.listen(60)
        except TimeoutError:
            started = None
        if started is None:
            sys.exit(f"creating input {number} failed:\n{worker.stop()}")
        tally = self.tallies.setdefault(started["format"], Tally(dict.fromkeys(COLUMNS, 0)))
        tally.counts["inputs"] += 1
        path = self.scratch / started["name"]
        try:
            done = worker.wait_for_result()
        except TimeoutError:
            tally.counts["hung"] += 1
            tally.worst_seconds = max(tally.worst_seconds, HANG_SECONDS)
            self._record("hung", number, path, worker.stop())
            return False
        if done is None:
            tally.counts["crashed"] += 1
            self._record("crashed", number, path, worker.stop())
            return False
        tally.counts[done["done"]] += 1
        tally.worst_seconds = max(tally.worst_seconds, done["seconds"])
        peak = max(done["peaks"].values())
        tally.peak = max(tally.peak, peak)
        for step, reached in done["peaks"].items():
            self.steps[step] = max(self.steps[step], reached)
        if done["error"]:
            self._record("other error", number, path, done["error"])
        if peak > self.limit:
            tally.counts["over memory"] += 1
            steps = ", ".join(f"{step} {reached:.0f}" for step, reached in done["peaks"].items())
            self._record("over memory", number, path, f"peak MiB up to: {steps}")
        return True

    def _record(self, failure: str, number: int, path: Path, details: str) -> None:
        print(f"{failure}: input {number}, {path.name}\n    " + details.replace("\n", "\n    "))
        sys.stdout.flush()
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            name = f"{failure.replace(' ', '-')}.{number}.{path.name}"
            (self.keep / name).write_bytes(Mutator(self.corpus, self.seed).make(number)[2])
            (self.keep / f"{name}.txt").write_text(details)

    def table(self) -> str:
        """Format the counts of all formats."""
        columns = "".join(f"{column:>12}" for column in COLUMNS)
        lines = [f"{'format':<16}{columns}{'worst s':>10}{'peak MiB':>10}"]
        lines += [self.tallies[name].row(name) for name in sorted(self.tallies)]
        total = Tally({key: sum(t.counts[key] for t in self.tallies.values()) for key in COLUMNS})
        total.worst_seconds = max(tally.worst_seconds for tally in self.tallies.values())
        total.peak = max(tally.peak for tally in self.tallies.values())
        return "\n".join([*lines, total.row("all")])

    @property
    def failures(self) -> int:
        """Number of inputs that were neither read nor refused, or took too much memory."""
        return sum(sum(list(each.counts.values())[3:]) for each in self.tallies.values())
