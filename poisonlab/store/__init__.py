"""DuckDB: the job queue, and the index over run folders."""

from poisonlab.store.database import StoreError, StoreLocked
from poisonlab.store.estimate import Estimate
from poisonlab.store.job import STATES, Job
from poisonlab.store.jobs import QueueFull
from poisonlab.store.leaderboard import plain
from poisonlab.store.store import Store

__all__ = ["STATES", "Estimate", "Job", "QueueFull", "Store", "StoreError", "StoreLocked", "plain"]
