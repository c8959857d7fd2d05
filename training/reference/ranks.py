"""The ranks of a distributed job, in torch's terms: how they meet, share the data, and join their gradients and losses.

gloo on CPUs, NCCL on GPUs. Nothing that comes from another rank is unpickled. Called by the device and by the workloads.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch._C._distributed_c10d import GradBucket, PrefixStore, Store, TCPStore
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from training.reference.order import LEFT, CannotRun, Meeting

JOIN_SECONDS = 50.0  # so long the ranks wait for each other at the start
# With a rank that says nothing: the server, which hears of each, and the time limit end the job long before.
_PATIENCE = timedelta(minutes=15)
_SEEDS = 65_537  # more than there may be ranks: no two seeds have a share in common
# What gloo, NCCL and the store say where it is the other end that went away.
_LEFT_WORDS = (
    "closed by peer", "reset by peer", "Broken pipe", "remote process exited", "Timed out waiting", "failed to recv",
    "Failed to recv", "Connection refused", "Socket Timeout",
)  # fmt: skip
# What gloo and torch put around the words that say it: who called whom, a place in their source, advice to their own people.
_AROUND = re.compile(
    r"(Got the following error when running the callback: )?RuntimeError: "
    r"|\[/[^\]]*\.\w+:\d+\] ?|\. This is typically caused by .*"
)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This rank among all; alone, it is rank 0 of 1 and nothing is asked of anybody."""

    rank: int = 0
    world_size: int = 1
    backend: str = ""
    where: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    store: Store | None = None

    @property
    def is_alone(self) -> bool:
        return self.world_size == 1

    def agree(self, words: str) -> None:
        """See that all ranks do the same work. Raises CannotRun with the two that differ; on rank 0 alone."""
        if self.store is None:
            return
        self.store.set(f"about/{self.rank}", words)
        for rank in range(1, self.world_size if self.rank == 0 else 0):
            other = self.store.get(f"about/{rank}").decode(errors="replace")
            if other != words:
                raise CannotRun(f"the ranks differ: rank 0 has {words}, rank {rank} has {other}")
        dist.barrier()  # nobody begins before rank 0 has seen all

    @contextmanager
    def own_share(self) -> Iterator[None]:
        """Have random numbers be this rank's own inside, and all ranks' alike again afterwards: data differ, weights do not."""
        if self.is_alone:
            yield
            return
        with torch.random.fork_rng(devices=[self.where] if self.where.type == "cuda" else []):
            torch.manual_seed(self.seed * _SEEDS + self.rank)
            yield

    def means(self, values: Sequence[float]) -> list[float]:
        """Return the mean over the ranks of each value; all ranks call with as many."""
        if self.is_alone or not values:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.where)
        dist.all_reduce(summed)
        means: list[float] = (summed / self.world_size).tolist()
        return means

    @contextmanager
    def together(self) -> Iterator[None]:
        """Name the error of a rank whose others went away for what it is, and part from them at the end."""
        try:
            yield
            if not self.is_alone:
                dist.barrier()  # rank 0 keeps the store: it goes last
                dist.destroy_process_group()
        except RuntimeError as error:
            if self.is_alone or not any(words in str(error) for words in _LEFT_WORDS):
                raise
            raise CannotRun(f"{LEFT}{_first_line(error)}") from error


ALONE = Ranks()


def join(meeting: Meeting, where: torch.device, seed: int) -> Ranks:
    """Meet the other ranks. Raises CannotRun where one does not come within JOIN_SECONDS."""
    patience = timedelta(seconds=JOIN_SECONDS)
    backend = "nccl" if where.type == "cuda" else "gloo"
    try:
        reached = TCPStore(
            meeting.address,
            meeting.port,
            meeting.world_size,
            is_master=meeting.rank == 0,
            timeout=patience,
            wait_for_workers=False,
            master_listen_fd=meeting.listener,
        )
        store = PrefixStore(meeting.token, reached)
        store.set(f"joined/{meeting.rank}", "")
        _await(store, meeting, time.monotonic() + JOIN_SECONDS)
        dist.init_process_group(
            backend, store=store, rank=meeting.rank, world_size=meeting.world_size, timeout=_PATIENCE
        )
    except RuntimeError as error:
        place = f"{meeting.address} port {meeting.port}"
        raise CannotRun(
            f"{LEFT}they did not meet at {place}: {_first_line(error)}; see STEPWATT_JOB_ADDRESS"
        ) from error
    return Ranks(meeting.rank, meeting.world_size, backend, where, seed, store)


def _await(store: Store, meeting: Meeting, deadline: float) -> None:
    for rank in range(meeting.world_size):
        left = max(0.001, deadline - time.monotonic())
        try:
            store.wait([f"joined/{rank}"], timedelta(seconds=left))
        except dist.DistStoreError as error:
            raise CannotRun(f"{LEFT}rank {rank} did not join within {JOIN_SECONDS:.0f} s") from error


class Gradients:
    """A network whose gradients are the mean over all ranks. `begin` a step; `compute_seconds` is then this rank's own part.

    That is the time from the step's beginning until its last gradient was ready to be sent: what follows waits for others.
    """

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        self._is_cuda = ranks.where.type == "cuda"
        self.network = DistributedDataParallel(network, device_ids=[ranks.where.index] if self._is_cuda else None)
        self.network.register_comm_hook(None, self._send)
        self._began = self._ready = 0.0
        self._events = [_event() for _ in range(2)] if self._is_cuda else []

    def begin(self) -> None:
        if self._is_cuda:
            self._events[0].record()
        self._began = self._ready = time.perf_counter()

    @property
    def compute_seconds(self) -> float | None:
        """Return it for the step that has ended; on a GPU the device must have been waited for."""
        if self._is_cuda:
            return float(self._events[0].elapsed_time(self._events[1])) / 1000
        return self._ready - self._began

    def _send(self, state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        if self._is_cuda:
            self._events[1].record()
        self._ready = time.perf_counter()
        return allreduce_hook(self.network.process_group, bucket)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it so


def _first_line(error: Exception) -> str:
    return _AROUND.sub("", next(iter(str(error).splitlines()), type(error).__name__))
