"""Texts on disk: any of them by its index, none of them in memory."""

from __future__ import annotations

import mmap
import operator
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from typing import IO, Any, overload

from transferstats.errors import DataError

BUFFER = 1 << 20  # bytes


class StoredTexts(Sequence[str]):
    """A sequence of texts in a temporary file, of which only the ends of texts are in memory.

    The file has no name: it goes with the object or its process, however that ends. Processes that are forked
    from this one may read it too.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Write texts, none of them with half a surrogate pair, one after the other.

        Raises
        ------
        DataError: no room in the folder for temporary files.
        """
        self._ends = array("q", [0])
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(buffering=BUFFER)  # noqa: SIM115 (lives as long as self)
            weakref.finalize(self, self._file.close)
            for text in texts:
                self._ends.append(self._ends[-1] + self._file.write(text.encode("utf-8")))
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"texts are kept in a temporary file while they are used, and {tempfile.gettempdir()} takes no "
                f"more ({error}): make room there, or set TMPDIR to a folder that has some"
            ) from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        position = range(len(self))[operator.index(index)]  # as a list: from the end if negative, or IndexError
        start, stop = self._ends[position], self._ends[position + 1]
        if start == stop:
            return ""
        # Mapped for this text alone: what stays mapped counts as memory of the process once it is touched, and
        # seeking would move the place at which a forked process reads.
        first = start - start % mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(self._file.fileno(), stop - first, access=mmap.ACCESS_READ, offset=first) as view:
            return view[start - first :].decode("utf-8")

    def __reduce__(self) -> tuple[Any, ...]:
        """Elsewhere there is no such file: a copy holds its texts."""
        return tuple, (tuple(self),)

    def __repr__(self) -> str:
        return f"StoredTexts({len(self)} texts, {self._ends[-1]} bytes)"
