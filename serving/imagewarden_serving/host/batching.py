"""Requests of many callers joined into few runs.

A queue holds what may share a run: the same loaded version, signature and outputs, and rows of the same shape. So a
request of another shape never spoils a batch. While a run goes on, the next batch forms; when a thread is free, a
batch goes once it is full or its oldest request has waited for `batch_timeout_micros`. A batch that the graph refuses
is run again request by request, so that the one at fault is the one that is told.

Everything but the runs themselves happens on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from imagewarden_serving.host.config import BatchingParameters
from imagewarden_serving.host.errors import Code, HostError, invalid
from imagewarden_serving.host.handle import Handle
from imagewarden_serving.host.metrics import Metrics
from imagewarden_serving.host.tensors import Array

_Key = tuple[int, str, tuple[str, ...], tuple[tuple[int, ...], ...]]


@dataclass(eq=False, slots=True)
class _Task:
    """One request in a queue; times are the event loop's clock, in seconds."""

    inputs: Mapping[str, Array]
    rows: int
    enqueued: float
    deadline: float | None
    future: asyncio.Future[dict[str, Array]]


@dataclass(eq=False, slots=True)
class _Queue:
    handle: Handle
    signature: str
    outputs: tuple[str, ...]
    tasks: deque[_Task] = field(default_factory=deque)

    def rows(self) -> int:
        return sum(task.rows for task in self.tasks)


class BatchScheduler:
    """Runs requests, joined where they can be.

    Args:
        parameters: None runs every request alone.
        threads: runs at a time when there is no batching.
    """

    def __init__(self, parameters: BatchingParameters | None, metrics: Metrics, *, threads: int) -> None:
        self._parameters = parameters
        self._metrics = metrics
        workers = threads if parameters is None else parameters.num_batch_threads
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="run")
        self._free = workers
        self._queues: dict[_Key, _Queue] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(
        self,
        handle: Handle,
        signature: str,
        outputs: tuple[str, ...],
        inputs: Mapping[str, Array],
        deadline: float | None,
    ) -> dict[str, Array]:
        """Compute the outputs of one request.

        Args:
            handle: the loaded version, held by the caller.
            signature: its signature.
            outputs: aliases of the signature.
            inputs: by alias, of the dtypes of the signature.
            deadline: on the event loop's clock; a request that is still queued then is dropped.

        Raises:
            HostError: INVALID_ARGUMENT for what cannot be batched or what the graph refuses, UNAVAILABLE for a full
                queue, DEADLINE_EXCEEDED.
        """
        loop = asyncio.get_running_loop()
        if self._parameters is None or not handle.servable.signatures[signature].batchable:
            with handle.hold():  # the run outlives a caller that goes away
                alone = loop.run_in_executor(self._pool, self._run_once, handle, signature, outputs, inputs)
                return await _uncancelled(alone, handle)
        rows = _rows(inputs)
        task = _Task(inputs, rows, loop.time(), deadline, loop.create_future())
        queue = self._enqueue(self._parameters, handle, signature, outputs, task)
        # What arrives in the same turn of the loop shares the batch.
        loop.call_soon(self._dispatch)
        try:
            return await task.future
        except asyncio.CancelledError:
            with suppress(ValueError):  # it may be in a batch by now
                queue.tasks.remove(task)
            raise

    def _enqueue(
        self, parameters: BatchingParameters, handle: Handle, signature: str, outputs: tuple[str, ...], task: _Task
    ) -> _Queue:
        if parameters.refuse_oversize and task.rows > parameters.max_batch_size:
            raise invalid(f"Task size {task.rows} is larger than maximum input batch size {parameters.max_batch_size}")
        shapes = tuple(task.inputs[alias].shape[1:] for alias in sorted(task.inputs))
        key = (id(handle), signature, outputs, shapes)
        queue = self._queues.get(key) or _Queue(handle, signature, outputs)
        waiting = -(-(queue.rows() + task.rows) // parameters.max_batch_size)
        if queue.tasks and waiting > parameters.max_enqueued_batches:
            raise HostError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"max_enqueued_batches={parameters.max_enqueued_batches}",
            )
        self._queues[key] = queue
        queue.tasks.append(task)
        return queue

    def _dispatch(self) -> None:
        """Start the runs that are due, as far as threads are free."""
        if self._parameters is None:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        patience = self._parameters.batch_timeout_micros / 1e6
        while self._free:
            self._queues = {key: queue for key, queue in self._queues.items() if queue.tasks}
            if not self._queues:
                return
            full, now = self._parameters.max_batch_size, loop.time()
            # The oldest of those that are full or have waited: a queue that is always full must not starve another.
            due = [q for q in self._queues.values() if q.rows() >= full or q.tasks[0].enqueued + patience <= now]
            if not due:
                ripe = min(q.tasks[0].enqueued for q in self._queues.values()) + patience
                self._timer = loop.call_at(ripe, self._dispatch)
                return
            next_ = min(due, key=lambda q: q.tasks[0].enqueued)
            batch = self._take(next_, self._parameters)
            if batch:
                self._free -= 1
                run = loop.create_task(self._run_batch(next_, batch))
                self._runs.add(run)
                run.add_done_callback(self._runs.discard)

    def _take(self, queue: _Queue, parameters: BatchingParameters) -> list[_Task]:
        """The next batch of a queue, without the requests that nobody waits for."""
        now = asyncio.get_running_loop().time()
        batch: list[_Task] = []
        rows = 0
        while queue.tasks and (not batch or rows + queue.tasks[0].rows <= parameters.max_batch_size):
            task = queue.tasks.popleft()
            if task.future.done():
                continue
            if task.deadline is not None and task.deadline <= now:
                task.future.set_exception(HostError(Code.DEADLINE_EXCEEDED, "The deadline passed in the batch queue"))
                continue
            self._metrics.queuing_latency.observe((now - task.enqueued) * 1e6, parameters.thread_pool_name)
            batch.append(task)
            rows += task.rows
        return batch

    async def _run_batch(self, queue: _Queue, batch: list[_Task]) -> None:
        loop = asyncio.get_running_loop()
        try:
            with queue.handle.hold():
                results = await loop.run_in_executor(self._pool, self._run_tasks, queue, batch)
        finally:
            self._free += 1
            self._dispatch()
        for task, result in zip(batch, results, strict=True):
            if task.future.done():
                continue
            if isinstance(result, BaseException):
                task.future.set_exception(result)
            else:
                task.future.set_result(result)

    def _run_tasks(self, queue: _Queue, batch: list[_Task]) -> list[dict[str, Array] | BaseException]:
        """On a batch thread: one result or one error for each request."""
        try:
            return list(self._run_joined(queue, batch))
        except HostError as error:
            if len(batch) == 1:
                return [error]
            return [result for task in batch for result in self._run_tasks(queue, [task])]
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers wait for an answer
            return [error] * len(batch)

    def _run_joined(self, queue: _Queue, batch: list[_Task]) -> Iterable[dict[str, Array]]:
        rows = sum(task.rows for task in batch)
        padding = self._padding(rows) if rows else 0
        inputs = {alias: _join([task.inputs[alias] for task in batch], padding) for alias in batch[0].inputs}
        self._metrics.wrapped_run_count.add()
        self._metrics.batch_size.observe(rows + padding, queue.handle.servable.name)
        outputs = self._run_once(queue.handle, queue.signature, queue.outputs, inputs)
        for alias, array in outputs.items():
            if array.ndim == 0 or len(array) != rows + padding:
                raise HostError(
                    Code.FAILED_PRECONDITION,
                    f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    f"input tensors: {alias} has shape {list(array.shape)} for {rows + padding} rows",
                )
        start = 0
        for task in batch:
            yield {alias: array[start : start + task.rows] for alias, array in outputs.items()}
            start += task.rows

    def _padding(self, rows: int) -> int:
        sizes = self._parameters.allowed_batch_sizes if self._parameters else ()
        return next((size - rows for size in sizes if size >= rows), 0)

    def _run_once(
        self, handle: Handle, signature: str, outputs: tuple[str, ...], inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        begin = time.perf_counter()
        result = handle.servable.run(signature, outputs, inputs)
        elapsed = (time.perf_counter() - begin) * 1e6
        self._metrics.runtime_latency.observe(elapsed, handle.servable.name, "Predict", "TF1")
        return result

    async def close(self) -> None:
        """Wait for the runs that go on."""
        while self._runs:
            await asyncio.gather(*self._runs, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _uncancelled(run: asyncio.Future[dict[str, Array]], handle: Handle) -> dict[str, Array]:
    """Wait for a run; if the caller goes away, the version stays held until the run ends."""
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        if not run.cancel():
            handle.hold_until(run)
        raise


def _rows(inputs: Mapping[str, Array]) -> int:
    """The rows of a request.

    Raises:
        HostError: INVALID_ARGUMENT, as the real server's batching session says it.
    """
    if any(array.ndim == 0 for array in inputs.values()):
        raise invalid("Batching input tensors must have at least one dimension")
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) != 1:
        raise invalid("Batching session Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _join(arrays: list[Array], padding: int) -> Array:
    if padding:
        first = next(array for array in arrays if len(array))
        arrays = [*arrays, np.repeat(first[:1], padding, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
