"""Ray actors that each hold one :class:`~.host.Host`, and the connection of this process to their cluster.

Each of them takes one processor core of the cluster, for its worker process. Vectorised environments that a process
builds beside its first one (for tests) are placed on the same nodes and take none: only one of them works at a time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ....utils import ray_cluster
from ....utils.errors import UserError
from ....utils.waiting import say as report
from ...build import EnvError
from ..base import usable_cpus
from .host import versions

USER = "backend=ray"
#: seconds that an actor may take to close its environments
CLOSE_SECONDS = 8.0
#: seconds between two looks at what has come, and at the cluster
_SLICE = 1.0
#: seconds of waiting for a processor core after which the cluster is looked at, and after which a message says so
_LOOK_AFTER, _SAY_AFTER = 2.0, 15.0
#: lines of Ray's errors that say nothing to a user
_DETAILS = ("class_name:", "actor_id:", "pid:", "name:", "namespace:", "ip:")


@dataclass
class Lost:
    """An actor's end, in place of its answer; ``why`` continues a sentence."""

    why: str


@dataclass
class Node:
    """One actor: its number, its slots ``first`` to ``last - 1``, and where it is."""

    number: int
    first: int
    last: int
    actor: Any
    where: str = ""
    #: how often it was lost since it last answered
    losses: int = 0
    #: its last command, for messages
    doing: str = "starting"


#: what is given to a node with a command
Give = Callable[[Node], Any]


@dataclass
class _Connection:
    """This process's connection, shared by its vectorised environments; Ray knows one for each process."""

    ray: Any
    address: str
    own: bool  # made here; otherwise its maker ends it
    users: int = 0
    places: list[str] = field(default_factory=list)  # nodes whose cores are taken, one entry for each actor


_open: list[_Connection] = []


def _connection(address: str | None, cores: int) -> _Connection:
    """Return the connection, made if there is none."""
    if not _open:
        ray = ray_cluster.import_ray(USER)
        where, own = address or os.environ.get("RAY_ADDRESS") or "local", not ray.is_initialized()
        if own:
            local = {"num_cpus": cores, "include_dashboard": False} if where == "local" else {}
            ray_cluster.connect(where, USER, **local)
        _open.append(_Connection(ray, where, own))
    _open[0].users += 1
    return _open[0]


def _release(connection: _Connection) -> None:
    connection.users -= 1
    if not connection.users and connection in _open:
        _open.remove(connection)
        if connection.own:
            connection.ray.shutdown()


def node_class() -> type:
    """Return the class of the actors: an inner one, since Ray sends it by value."""
    load = ray_cluster.loader()

    class HostActor:
        """Loads the package as the training process has it, and hands commands to a host."""

        def __init__(self, main: str, path: list[str], folder: str) -> None:
            import os
            import sys

            # as a local worker: the run's folder and modules, where this node has them too; its own packages
            if os.path.isdir(folder):
                os.chdir(folder)
            new = [x for x in path if x not in sys.path and "site-packages" not in x and os.path.isdir(x)]
            sys.path[:0] = new
            self.failed, self.host = "", None
            try:
                load(main)
                from oamarl.envs.vector.remote.host import Host

                self.host = Host()
            except Exception as error:
                self.failed = f"{type(error).__name__}: {error}"

        def identity(self) -> dict[str, Any]:
            import ray

            context = ray.get_runtime_context()
            found = {"ip": ray.util.get_node_ip_address(), "id": context.get_node_id(), "failed": self.failed}
            if self.host is not None:
                from oamarl.envs.vector.remote.host import versions

                found["versions"] = versions()
            return found

        def do(self, command: str, given: Any, policies: Any) -> dict[str, Any]:
            assert self.host is not None
            return self.host.do(command, given, policies)

        def close(self) -> None:
            if self.host is not None:
                self.host.close()

    return HostActor


class Actors:
    """The actors of one vectorised environment.

    Args:
        address: of the cluster; None: see ``ray_address``.
        wanted: how many; None: one for each processor core of the cluster.
        most: no more than so many.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached or has fewer cores.
    """

    def __init__(self, address: str | None, wanted: int | None, most: int) -> None:
        cores = min(wanted or usable_cpus(), most)
        self.connection = _connection(address, cores)
        self.ray = self.connection.ray
        self.nodes: list[Node] = []
        self.reserves = not self.connection.places
        self._class = self.ray.remote(node_class())
        try:
            there = len(self.connection.places) or self._cores()
            self.count = min(wanted or max(there, 1), most)
            if self.reserves and self.count > there:
                raise UserError(
                    f"workers={self.count} takes {self.count} processor cores, and the Ray cluster "
                    f"{self.connection.address} has {there}: lower workers, or add nodes."
                )
        except BaseException:
            _release(self.connection)
            raise

    def _cores(self) -> int:
        """Return how many processor cores the nodes have that are there now."""
        return int(sum(n["Resources"].get("CPU", 0) for n in self.ray.nodes() if n["Alive"]))

    # -- starting ----------------------------------------------------------------------------------------------------

    def start(self, number: int, first: int, last: int, reserve: bool = True) -> Node:
        """Start an actor, somewhere; :meth:`settle` waits for it."""
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        if not self.reserves:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            place = self.connection.places[number % len(self.connection.places)]
            options |= {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(place, soft=True)}
        elif not reserve:
            options["num_cpus"] = 0
        actor = self._class.options(**options).remote(ray_cluster.MAIN, list(sys.path), os.getcwd())
        return Node(number, first, last, actor)

    def settle(self, nodes: list[Node]) -> list[tuple[Node, Lost]]:
        """Wait until ``nodes`` are there, and check them; returns those that were lost.

        Where too few processor cores are left in the cluster, an actor shares one.

        Raises:
            UserError: a node lacks the package, or has other versions of it, Python or numpy.
        """
        waiting, lost = {n.actor.identity.remote(): n for n in nodes}, []
        began, told, shared = time.monotonic(), False, False
        while waiting:
            for ref in self.ready(list(waiting)):
                node, found = waiting.pop(ref), self.answer(ref)
                if isinstance(found, Lost):
                    lost.append((node, found))
                else:
                    self._check(node, found)
            waited = time.monotonic() - began
            if waiting and self.reserves and not shared and waited > _LOOK_AFTER and self._cores() < self.count:
                shared = True
                waiting = {self._sharing(node): node for node in waiting.values()}
            elif waiting and waited > _SAY_AFTER and not told:
                told = True
                report(f"Waiting for {len(waiting)} processor cores of the Ray cluster {self.connection.address}.")
        return lost

    def _sharing(self, node: Node) -> Any:
        """Start a waiting actor in such a way that it takes no core of its own; returns its identity's reference."""
        self.kill(node)
        node.actor = self.start(node.number, node.first, node.last, reserve=False).actor
        report(f"The Ray cluster has too few processor cores left: environment worker {node.number} shares one.")
        return node.actor.identity.remote()

    def _check(self, node: Node, found: dict[str, Any]) -> None:
        node.where = f" on node {found['ip']}"
        if found["failed"]:
            raise UserError(
                f"The Ray node {found['ip']} cannot load oamarl ({found['failed']}): install the same version on "
                "every node."
            )
        mine, theirs = versions(), found["versions"]
        differ = [f"{name} {theirs.get(name)} (here {mine[name]})" for name in mine if mine[name] != theirs.get(name)]
        if differ:
            raise UserError(
                f"The Ray node {found['ip']} has {' and '.join(differ)}: install the same versions on every node."
            )
        if self.reserves:
            places = self.connection.places
            places.extend([""] * (node.number + 1 - len(places)))
            places[node.number] = found["id"]

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, node: Node, command: str, given: Any, policies: Any = None) -> Any:
        """Give a command to an actor; returns the reference of its answer."""
        node.doing = command
        return node.actor.do.remote(command, given, policies)

    def answer(self, ref: Any) -> Any:
        """Return the answer of a reference, or :class:`Lost`.

        Raises:
            EnvError: the code on the node failed.
        """
        errors = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except errors.RayTaskError as error:
            raise EnvError(f"An environment worker failed on its node: {str(error).rstrip()}") from None
        except errors.RayError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            return Lost(" ".join(line for line in lines if line and not line.startswith(_DETAILS))[:300])

    def ready(self, refs: list[Any]) -> list[Any]:
        """Return those of ``refs`` whose answers have come, after waiting for a moment for the first one."""
        return list(self.ray.wait(refs, timeout=_SLICE)[0])

    # -- ending ------------------------------------------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """End an actor now."""
        with contextlib.suppress(Exception):
            self.ray.kill(node.actor)

    def close(self) -> None:
        """End all actors, their environments first, and the connection after the last use of it."""
        nodes, self.nodes[:] = list(self.nodes), []
        if self.ray.is_initialized():
            with contextlib.suppress(Exception):
                self.ray.wait([n.actor.close.remote() for n in nodes], num_returns=len(nodes), timeout=CLOSE_SECONDS)
            for node in nodes:
                self.kill(node)
        if self.reserves:
            self.connection.places.clear()
        _release(self.connection)
