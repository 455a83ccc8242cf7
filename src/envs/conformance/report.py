"""What a validation of an environment has found: every finding is one sentence."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.errors import UserError

#: where an exception comes from, in :meth:`Report.during`
BUILDING = "building the environment"
#: whose lines say nothing about an environment: the checks, and the package that they are of
_CHECKS, _OWN = (str(Path(__file__).resolve().parents[up]) + os.sep for up in (0, 2))


class Stop(Exception):
    """Raised where the environment is too broken to continue a check."""


@dataclass
class Report:
    """The findings (something is wrong) and warnings (something is worth knowing) of a validation, one of each kind.

    ``excuse`` is why an episode need not depend on its seed alone, where the environment declares that.
    """

    findings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    excuse: str = ""
    _reported: set[str] = field(default_factory=set)

    @property
    def kinds(self) -> set[str]:
        """The kinds reported so far."""
        return set(self._reported)

    def find(self, kind: str, sentence: str) -> None:
        """Add a finding unless one of this kind is there."""
        if kind not in self._reported:
            self._reported.add(kind)
            self.findings.append(sentence)

    def warn(self, kind: str, sentence: str) -> None:
        """Add a warning unless one of this kind is there."""
        if kind not in self._reported:
            self._reported.add(kind)
            self.warnings.append(sentence)

    def differs(self, kind: str, sentence: str) -> None:
        """Add a finding about episodes that should be the same; an excuse makes it a warning."""
        if self.excuse:
            self.warn(kind, f"{sentence} {self.excuse}")
        else:
            self.find(kind, sentence)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Turn an exception into a finding that says where it came from, and stop the check."""
        try:
            yield
        except Stop:
            raise
        except UserError as exc:
            if what == BUILDING:
                raise  # wrong arguments, or something that is not installed: a mistake on the command line
            self.find("raises", f"{what}: {exc}")
            raise Stop from exc
        except (Exception, SystemExit) as exc:
            self.find("raises", f"{what} raises {type(exc).__name__}: {' '.join(str(exc).split())}{_place(exc)}.")
            raise Stop from exc


def _place(error: BaseException) -> str:
    """Where an exception was raised: the last line outside this package, or of the environment if that is one of it."""
    frames = traceback.extract_tb(error.__traceback__)
    for inside in (_OWN, _CHECKS):
        for frame in reversed(frames):
            if not str(Path(frame.filename).resolve()).startswith(inside):
                return f" ({frame.filename}, line {frame.lineno})"
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
