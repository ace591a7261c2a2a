"""The default engine: jobs run in this process, one at a time on each of its devices."""

from collections.abc import Sequence
from pathlib import Path

from poisonlab import machine
from poisonlab.records.record import RunRecord
from poisonlab.runner.parts import Slot
from poisonlab.runner.progress import Listener
from poisonlab.runner.queue import QueueRunner
from poisonlab.runner.recorder import run_and_record
from poisonlab.store import Job, Store


class LocalRunner(QueueRunner):
    """Runs queued jobs in this process.

    Args:
        results: holds ``runs`` and the stage ``cache``.
        devices: one slot each; by default every GPU, or the CPU.
    """

    def __init__(self, store: Store, results: Path, devices: Sequence[str] | None = None) -> None:
        found = machine.worker_devices() if devices is None else devices
        super().__init__(store, results, [Slot(device, device) for device in found])

    def carry_out(self, job: Job, slot: Slot, listener: Listener) -> RunRecord:
        return run_and_record(
            job.spec.experiment(),
            self.results / "runs",
            run_id=job.run_id,
            device=slot.device,
            cache_root=self.results / "cache",
            send=listener,
        )
