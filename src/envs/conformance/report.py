"""What a validation of an environment has found: every finding is one sentence."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...utils.errors import UserError

#: where an exception comes from, in :meth:`Report.during`
BUILDING = "building the environment"


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
            frames = traceback.extract_tb(exc.__traceback__)
            at = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
            self.find("raises", f"{what} raises {type(exc).__name__}: {' '.join(str(exc).split())}{at}.")
            raise Stop from exc
