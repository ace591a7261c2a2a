"""The engine for Slurm sites: workers are jobs of the cluster, submitted through submitit, that carry out many runs.

Program and workers see one results folder and talk through mailboxes in it.
"""

from pathlib import Path

import submitit

from poisonlab.runner import worker
from poisonlab.runner.mailbox import Mailbox
from poisonlab.runner.options import SlurmOptions
from poisonlab.runner.parts import EngineError, NoWorker, Slot
from poisonlab.runner.pool import FOLDER, PoolRunner, Process
from poisonlab.store import Store

POLL = 0.25  # seconds between two looks into a mailbox
IDLE = 120.0  # seconds without an order after which a worker gives its place in the cluster back
ALONE = 120.0  # seconds without a sign of the program, which a slow file system may take to show it
# states in which a worker may still answer; in all others of Slurm's it never will
_ALIVE = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED", "UNKNOWN")


class SlurmRunner(PoolRunner):
    """Runs queued jobs on a Slurm cluster.

    Args:
        results: on a file system that the cluster's machines see under the same name.

    Raises:
        EngineError: this machine cannot submit jobs.
    """

    def __init__(self, store: Store, results: Path, options: SlurmOptions) -> None:
        device = "cuda" if options.gpus else "cpu"
        slots = [Slot(f"slurm {number}", device) for number in range(1, options.workers + 1)]
        super().__init__(store, results, slots, poll=POLL)
        try:
            self._executor = submitit.AutoExecutor(
                folder=results.absolute() / FOLDER / "slurm", cluster=options.cluster or None
            )
        except (RuntimeError, ValueError, AssertionError) as error:
            raise EngineError(f"jobs cannot be submitted to Slurm from here: {error}") from error
        asked = {
            "timeout_min": options.minutes,
            "cpus_per_task": options.cpus,
            "gpus_per_node": options.gpus or None,
            "mem_gb": options.memory_gb or None,
            "slurm_partition": options.partition or None,
            "slurm_account": options.account or None,
            "slurm_job_name": "poisonlab",
        }
        self._executor.update_parameters(
            **{name: value for name, value in asked.items() if value is not None}
        )

    def open(self, slot: Slot, mailbox: Mailbox) -> Process:
        try:
            return _Submitted(self._executor.submit(worker.serve, str(mailbox.folder), IDLE, ALONE))
        except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
            raise NoWorker(f"Slurm takes no job: {error}") from error


class _Submitted:
    """A worker in the cluster; it may have to wait for its place there."""

    def __init__(self, job: "submitit.Job[None]") -> None:
        self._job = job

    def gone(self) -> str:
        state = str(self._job.state).upper().split()[0]
        return "" if state in _ALIVE else f"Slurm says that job {self._job.job_id} is {state}"

    def end(self) -> None:
        self._job.cancel(check=False)
