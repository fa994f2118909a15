"""Where surfaces come from: made-up ones by name, the results of any study, and Python of the user's own."""

import importlib.util
import re
from pathlib import Path

from robustcore.errors import InputError
from robustcore.storage import Folder
from sweeps.simulate.recorded import digits, recorded
from sweeps.simulate.surface import Surface
from sweeps.simulate.synthetic import breaking, crossing, smooth

SHIPPED = {"smooth": smooth, "crossing": crossing, "breaking": breaking, "digits": digits}


def surface_at(place: str, storage: str | None = None) -> Surface:
    """A shipped one by its name, ``FILE.py:NAME``, or a launched study: its name, file, folder or results.parquet.

    Raises InputError, or RequestError where the study was never launched.
    """
    if place in SHIPPED:
        return SHIPPED[place]()
    if match := re.fullmatch(r"(.+\.py):(\w+)", place):
        return _from_python(place, *match.groups())
    from sweeps.options import folder_of
    from sweeps.stored import launched_study, stored_results

    local = Path(place)
    if local.name == "results.parquet":
        folder = Folder(str(local.parent))
    else:
        folder = Folder(place) if (local / "results.parquet").exists() else folder_of(place, storage)
    return recorded(launched_study(folder), stored_results(folder))


def _from_python(place: str, path: str, name: str) -> Surface:
    """A ``Surface``, or a function that returns one."""
    if not Path(path).is_file():
        raise InputError(f"--surface {place}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None, "and a file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    surface = found() if callable(found) else found
    if not isinstance(surface, Surface):
        raise InputError(f"--surface {place}: expected a Surface or a function that returns one, got {found!r}"[:300])
    return surface
