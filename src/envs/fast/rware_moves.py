"""Conflict resolution in RWARE's warehouse: which agents may move.

The stock asks networkx: cells are nodes, each agent an edge from its cell to the one it wants. In a connected part all
agents of a ring move; none of a swap, or of a queue behind one that stays; and else those of the longest chain into
the free cell. Which of two equally long chains that is depends on the order of networkx' sets.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

Node = tuple[int, int]
Edges = list[tuple[Node, Node]]

#: releases of networkx of which `_order` is known to tell the order; those before 3.2 fill their sets in another one
ORDERED_ALIKE = ("3.2", "3.2.1", "3.3", "3.4", "3.4.1", "3.4.2", "3.5", "3.6", "3.6.1")


def winners(starts: Sequence[int], moves: Mapping[int, int], agent_at: Any, places: Sequence[Node]) -> set[int]:
    """Return the agents that move.

    Args:
        starts: each agent's cell.
        moves: the cells that agents want, who wants another than its own.
        agent_at: the id (from 1) of the agent in each cell, 0 for none.
        places: x and y of each cell.
    """
    behind: dict[int, list[int]] = {}
    for i, target in moves.items():
        behind.setdefault(target, []).append(i)
    wins: set[int] = set()
    edges: Edges = []
    for target in behind:
        if agent_at[target]:
            continue
        line, cell = [], target
        while len(queue := behind.get(cell, [])) == 1:
            line.append(queue[0])
            cell = starts[queue[0]]
        if queue:  # several want one cell: who is on the longest chain?
            edges = edges or [(places[c], places[moves.get(i, c)]) for i, c in enumerate(starts)]
            on_it = set(_chain_of()(edges, places[target]))
            line = [i for i in moves if places[starts[i]] in on_it]
        wins.update(line)
    if len(moves) - len(wins) > 3:  # the least ring on a grid
        wins.update(_rings({i: agent_at[t] - 1 for i, t in moves.items() if i not in wins}))
    return wins


def _rings(ahead: Mapping[int, int]) -> list[int]:
    """Return the agents in rings of three and more; ``ahead`` says who is in the cell that each of them wants."""
    found: list[int] = []
    done: set[int] = set()
    for i in ahead:
        walk: list[int] = []
        while i in ahead and i not in done:
            done.add(i)
            walk.append(i)
            i = ahead[i]
        if i in walk and len(walk) - walk.index(i) > 2:
            found += walk[walk.index(i) :]
    return found


def _longest_chain(edges: Edges, end: Node) -> list[Node]:
    """Return the nodes of the longest chain of ``edges`` into ``end``, as networkx would choose it among equals."""
    behind: dict[Node, list[Node]] = {}
    for a, b in edges:
        behind.setdefault(b, []).append(a)
    part = [end]
    for node in part:
        part += behind.get(node, ())
    length: dict[Node, int] = {}
    for node in reversed(part):
        length[node] = 1 + max((length[a] for a in behind.get(node, ())), default=-1)
    nodes, order = [end], None
    while (node := nodes[-1]) in behind:
        longest = [a for a in behind[node] if length[a] == length[node] - 1]
        if len(longest) > 1:
            order = order or _order(edges, behind, set(part))
            longest.sort(key=order.index)
        nodes.append(longest[0])
    return nodes


def _order(edges: Edges, behind: Mapping[Node, Sequence[Node]], part: set[Node]) -> list[Node]:
    """Return a connected part's nodes in the order in which networkx copies them out of the whole graph.

    That is the graph's own order for half of the graph and more, and else the order of a set that was filled breadth
    first, so that only filling one alike shows it.
    """
    ahead = dict(edges)
    graph = dict.fromkeys(chain.from_iterable(edges))
    mine = [node for node in graph if node in part]
    if 2 * len(mine) >= len(graph):
        return mine
    found, level = {mine[0]}, [mine[0]]
    for node in level:  # grows
        for other in ([ahead[node]] if node in ahead else []) + list(behind.get(node, ())):
            if other not in found:
                found.add(other)
                level.append(other)
    return list(set(iter(found)))


def _longest_chain_of_networkx(edges: Edges, end: Node) -> list[Node]:
    """Ask networkx itself, in the stock's way."""
    nx: Any = importlib.import_module("networkx")  # the stock's own dependency

    graph = nx.DiGraph()
    for a, b in edges:
        graph.add_edge(a, b)
    part = next(c for c in nx.weakly_connected_components(graph) if end in c)
    return list(nx.algorithms.dag_longest_path(graph.subgraph(part).copy()))[::-1]


@functools.cache
def _chain_of() -> Callable[[Edges, Node], list[Node]]:
    """Return the own way to choose if it is the installed networkx', and else its way, which is slow but right."""
    version = importlib.import_module("networkx").__version__
    return _longest_chain if version in ORDERED_ALIKE else _longest_chain_of_networkx
