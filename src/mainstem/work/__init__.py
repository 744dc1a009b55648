"""Work that outlives a process: a queue of tasks in Records, and those who do them."""

from mainstem.work.model import LeaseLost, ParkedTask, Priority, QueueFigures, Task, TaskId, TaskNotFound
from mainstem.work.queue import Queue
from mainstem.work.vitals import QueueWatch
from mainstem.work.worker import Handler, Held, Worker

__all__ = [
    "Handler",
    "Held",
    "LeaseLost",
    "ParkedTask",
    "Priority",
    "Queue",
    "QueueFigures",
    "QueueWatch",
    "Task",
    "TaskId",
    "TaskNotFound",
    "Worker",
]
