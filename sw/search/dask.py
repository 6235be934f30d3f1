"""Tasks of a search on a Dask cluster: ``--scheduler ADDRESS``.

The problem goes to every worker as a plugin, to those as well that come later. A task that a dead worker had is run
again by the scheduler; a result that comes twice is counted once.
"""

import pickle
import re
import threading

from lutloom.errors import ToolError

ADDRESS = r"(?:tcp://)?(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})"

SECONDS = 10
"""So long a scheduler, and then a worker, may take to answer."""

BATCHES = 8
"""Batches a worker thread: trials of a batch share prefixes, and a batch is what a dead worker loses."""

_problems, _scorers = {}, threading.local()


class Cluster:
    """A Dask cluster that is there.

    Parameters
    ----------
    problem : Problem
    address : str
        Of its scheduler.

    Raises
    ------
    ToolError
        ``distributed`` is not installed, the address is none, or nothing answers.
    """

    def __init__(self, problem, address):
        port = re.fullmatch(ADDRESS, address)
        if port is None or not 0 < int(port[1]) < 1 << 16:  # what Dask itself says of it comes with a traceback
            raise ToolError(f"--scheduler must be the address of a Dask scheduler, tcp://HOST:PORT, not {address!r}")
        try:
            import distributed
        except ImportError:
            raise ToolError("--scheduler needs dask.distributed, which is not installed; pip install "
                            "'lutloom[search]'") from None
        self._address = address
        self._distributed = distributed
        try:
            self._client = distributed.Client(address, timeout=SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            raise ToolError(f"no Dask scheduler answers at {address!r} ({_first_line(error)}); start one with 'dask "
                            "scheduler', or leave out --scheduler") from None
        try:
            self._prepare(problem)
        except BaseException:
            self._client.close()
            raise

    def _prepare(self, problem):
        try:
            self._client.wait_for_workers(1, timeout=SECONDS)
        except TimeoutError:
            raise ToolError(f"the Dask scheduler at {self._address!r} has no workers; start some with 'dask worker "
                            f"{self._address}'") from None
        self._key = f"lutloom-{id(problem)}-{self._client.id}"
        try:
            self._client.register_plugin(_plugin(self._key, pickle.dumps(problem)), name=self._key)
        except Exception as error:  # whatever a worker's import fails with
            raise ToolError(f"the Dask workers at {self._address!r} cannot run trials ({_first_line(error)}); install "
                            "this version of lutloom where they run") from None

    def __call__(self, tasks):
        """(task, result) of every task, as they come."""
        client, threads = self._client, max(1, sum(self._client.nthreads().values()))
        size = max(1, -(-len(tasks) // (threads * BATCHES)))
        batches = [tasks[start:start + size] for start in range(0, len(tasks), size)]
        futures = [client.submit(run_batch, self._key, batch, pure=False, retries=2) for batch in batches]
        try:
            for future in self._distributed.as_completed(futures, loop=client.loop):
                results = future.result()
                for task, answer in results:
                    if isinstance(answer, Exception):
                        raise answer
                    yield task, answer
        except (self._distributed.scheduler.KilledWorker, self._distributed.CancelledError, OSError) as error:
            raise ToolError(f"the Dask cluster at {self._address!r} failed ({_first_line(error)}); the trials that are "
                            "done are kept: the same command goes on from there") from None
        finally:
            for future in futures:
                future.release()

    def close(self):
        """Leave the cluster."""
        self._client.close(timeout=2)


def _first_line(error):
    return str(error).strip().split("\n")[0] or type(error).__name__


def _plugin(key, sent):
    """A worker plugin that brings the problem."""
    from distributed import WorkerPlugin

    class Bring(WorkerPlugin):
        name = key

        def setup(self, worker):
            from lutloom.search import dask as here

            here._problems[key] = sent

        def teardown(self, worker):
            from lutloom.search import dask as here

            here._problems.pop(key, None)

    return Bring()


def run_batch(key, tasks):
    """(task, result) of some tasks; runs on a worker."""
    from lutloom.search.scorer import Scorer
    from lutloom.search.workers import answered, one_thread

    if getattr(_scorers, "key", None) != key:
        _scorers.key, _scorers.scorer = key, Scorer(pickle.loads(_problems[key]))
    with one_thread():
        return [(task, answered(_scorers.scorer, task)) for task in tasks]
