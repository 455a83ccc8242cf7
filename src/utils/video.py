"""Videos of played episodes: GIF through Pillow, MP4 through ffmpeg (an extra), with a caption under each picture."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .errors import NotInstalled, UserError

SUFFIXES = (".gif", ".mp4")
_BAR, _PAPER, _INK = 26, (255, 255, 255), (20, 20, 20)
#: an episode's last picture stays this many pictures long, so that its end can be seen
_LINGER = 4
#: smaller pictures are enlarged by a whole factor: a caption must fit
_LEAST_WIDTH = 240


def check_target(path: str | Path) -> Path:
    """Check that a video can be written at ``path``, before anything is played for it.

    Raises:
        UserError: another suffix than .gif or .mp4, a missing package, or a folder that cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"The video '{path}' has no known kind: its name must end in .gif or .mp4.")
    if path.suffix.lower() == ".mp4":
        _ffmpeg()
    check_file(path, "video")
    return path


def check_file(path: Path, what: str) -> None:
    """Check that a file can be created at ``path`` (missing folders are created), before the work for it is done.

    Args:
        what: what the file is, for the message.

    Raises:
        UserError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".write_test"):
            pass
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be written there: {error.strerror or error}.") from None
    if path.is_dir():
        raise UserError(f"The {what} {path} cannot be written there: it is a folder.")


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError:
        raise NotInstalled(
            "An .mp4 needs the Python package imageio-ffmpeg, which is not installed: run "
            "`pip install imageio-ffmpeg`, or write a .gif."
        ) from None
    return imageio_ffmpeg


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """Return ``picture`` [H, W, 3] uint8 with a line of text in a bar under it.

    Small pictures are enlarged; width and height come out even, which video formats ask for.
    """
    from PIL import Image, ImageDraw

    factor = max(1, -(-_LEAST_WIDTH // picture.shape[1]))
    if factor > 1:
        picture = picture.repeat(factor, 0).repeat(factor, 1)
    height, width = picture.shape[:2]
    page = Image.new("RGB", (width + width % 2, height + height % 2 + _BAR), _PAPER)
    page.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(page)
    draw.text((6, page.height - _BAR / 2), text, fill=_INK, anchor="lm", font_size=14)
    return np.asarray(page)


class Video:
    """A video file in the making; the file appears under its name at :meth:`close`.

    Args:
        path: as :func:`check_target` returned it.
        fps: pictures a second.
    """

    def __init__(self, path: Path, fps: float = 5.0) -> None:
        self.path, self.fps = path, fps
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
        self._pages: list[Any] = []  # a GIF's, one byte a pixel: it is written at the end
        self._writer: Any = None
        self._size: tuple[int, int] | None = None

    def add(self, picture: np.ndarray, caption: str, last: bool = False) -> None:
        """Append a picture [H, W, 3] uint8; the last one of an episode stays a little.

        Raises:
            UserError: the file cannot be written.
        """
        from PIL import Image

        page = Image.fromarray(captioned(picture, caption))
        if self._size is None:
            self._size = page.size
        elif page.size != self._size:  # every picture of a file has one size
            page = page.resize(self._size)
        count = 1 + _LINGER * last
        if self.path.suffix.lower() == ".gif":
            self._pages += [page.quantize(128, dither=Image.Dither.NONE)] * count
            return
        try:
            if self._writer is None:
                self._writer = _ffmpeg().write_frames(
                    str(self._temporary), page.size, fps=self.fps, macro_block_size=2, ffmpeg_log_level="error"
                )
                self._writer.send(None)
            for _ in range(count):
                self._writer.send(np.asarray(page).tobytes())
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> Path:
        """Write the file and return its path.

        Raises:
            UserError: it cannot be written.
            ValueError: there was no picture.
        """
        if self._size is None:
            raise ValueError("a video needs at least one picture")
        try:
            if self._writer is not None:
                self._writer.close()
            else:
                first, *rest = self._pages
                first.save(
                    self._temporary, format="GIF", save_all=True, append_images=rest, loop=0,
                    duration=round(1000 / self.fps),
                )  # fmt: skip
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise self._failed(error) from None
        return self.path

    def discard(self) -> None:
        """Abort: no part of the file is left."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> UserError:
        self.discard()
        return UserError(f"The video {self.path} cannot be written: {error.strerror or error}.")
