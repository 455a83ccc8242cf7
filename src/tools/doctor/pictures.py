"""Video files, and pictures of environments drawn without a window."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ...envs.conformance.examples import examples
from ...utils.errors import NotInstalled, UserError
from .probes import Broken, NotHere


def video(suffix: str) -> str:
    """Write a video of two pictures.

    Raises:
        NotInstalled: the package that writes it is not there.
        Broken: the file is empty.
    """
    from ...utils.video import Video, check_target

    with tempfile.TemporaryDirectory() as folder:
        made = Video(check_target(Path(folder) / f"video{suffix}"))
        for shade in (0, 255):
            made.add(np.full((64, 64, 3), shade, np.uint8), "oamarl doctor")
        size = made.close().stat().st_size
    if not size:
        raise Broken(f"The {suffix} that was written is empty.")
    return f"two pictures in {size:,} bytes"


def draw(name: str) -> str:
    """Draw an environment without a window.

    Raises:
        NotInstalled: the environment is not.
        NotHere: there is no OpenGL that draws without a display.
    """
    from ...envs.rendering import Watched

    example = next(e for e in examples() if e.name == name)
    try:
        watched = Watched(example.env, example.args())
        try:
            watched.reset(np.arange(1), np.arange(1))
            picture = watched.frame()
        finally:
            watched.close()
    except NotInstalled:
        raise
    except UserError as error:
        raise NotHere(str(error)) from error
    return f"a picture of {picture.shape[1]} x {picture.shape[0]}"
