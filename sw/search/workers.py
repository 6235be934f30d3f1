"""Tasks of a search on the processors of this machine: as many processes as jobs, each with one thread.

Every process walks its own stretch of the tasks, so that trials which share a prefix stay together; when it is done, it
takes half of what is left of the longest stretch. A process that dies is started again, and its task with it.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque

from lutloom.errors import LutloomError, ToolError
from lutloom.search.scorer import Scorer

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
COMMAND = [sys.executable, "-c", "from lutloom.search.workers import main; main()"]
MOST_DEATHS = 3  # of processes, without a result between them


class Here:
    """One job: in this process."""

    def __init__(self, problem):
        self._scorer = Scorer(problem)

    def __call__(self, tasks):
        """(task, result) of every task, as they come."""
        with one_thread():
            for task in tasks:
                yield task, self._scorer(task)

    def close(self):
        """Nothing to end."""


class Processes:
    """Several jobs.

    Parameters
    ----------
    problem : Problem
    jobs : int
    """

    def __init__(self, problem, jobs):
        self._sent = pickle.dumps(problem)
        self._workers = [None] * jobs
        self._closed = False

    def __call__(self, tasks):
        """(task, result) of every task, as they come."""
        stretches, results, lock = _Stretches(tasks, len(self._workers)), queue.Queue(), threading.Lock()
        deaths = [0]

        def serve(number):
            try:
                while not self._closed and (task := stretches.take(number)) is not None:
                    while True:
                        answer = self._ask(number, task)
                        if answer is not None or self._closed:
                            break
                        with lock:
                            deaths[0] += 1
                            if deaths[0] >= MOST_DEATHS:
                                raise ToolError(f"{deaths[0]} processes of the search ended without a result; is there "
                                                "memory enough? The trials that are done are kept; try --jobs 1")
                    if answer is not None:
                        deaths[0] = 0
                        results.put((task, answer))
            except Exception as error:  # is raised where results are taken
                results.put((None, error))

        threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(len(self._workers))]
        for thread in threads:
            thread.start()
        for _ in tasks:
            task, answer = results.get()
            if isinstance(answer, Exception):
                raise answer
            yield task, answer

    def close(self):
        """End the processes."""
        self._closed = True
        for worker in self._workers:
            if worker is not None:
                _end(worker)

    @property
    def pids(self):
        """Of the processes that have been started."""
        return [worker.pid for worker in self._workers if worker is not None]

    def _ask(self, number, task):
        """A task's result; None where the process died."""
        worker = self._workers[number]
        try:
            if worker is None or worker.poll() is not None:
                worker = self._workers[number] = _started()
                worker.stdin.write(self._sent)
            pickle.dump(task, worker.stdin)
            worker.stdin.flush()
            answer = pickle.load(worker.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            _end(worker)
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Stretches:
    """Tasks, parted among workers."""

    def __init__(self, tasks, count):
        self._lock = threading.Lock()
        ends = [len(tasks) * index // count for index in range(count + 1)]
        self._parts = [deque(tasks[start:end]) for start, end in zip(ends, ends[1:], strict=False)]

    def take(self, number):
        """The next task of a worker; None when there are no more."""
        with self._lock:
            mine = self._parts[number]
            if not mine:
                longest = max(self._parts, key=len)
                for _ in range((len(longest) + 1) // 2):
                    mine.appendleft(longest.pop())
            return mine.popleft() if mine else None


def _started():
    """A process that reads a problem and then tasks."""
    environment = os.environ | dict.fromkeys(THREADS, "1")
    return subprocess.Popen(COMMAND, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=environment)


def _end(worker):
    """End a process, also one that is dead."""
    worker.kill()
    worker.wait()
    for stream in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):
            stream.close()


@contextlib.contextmanager
def one_thread():
    """BLAS on one thread, where that can be had."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(1):
        yield


def answered(scorer, task):
    """A task's result, or the user's error that it ends with."""
    try:
        return scorer(task)
    except LutloomError as error:
        return error


def _serve(source, sink):
    scorer = Scorer(pickle.load(source))
    while True:
        try:
            task = pickle.load(source)
        except EOFError:
            return
        pickle.dump(answered(scorer, task), sink)
        sink.flush()


def main():
    """What a process does: it answers tasks until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the search itself ends its processes
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers
    with contextlib.suppress(BrokenPipeError):
        _serve(sys.stdin.buffer, answers)
