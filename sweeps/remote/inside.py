"""The job on the cluster's head: unpacks its order and does what `sweep` does. Started as ``python -m`` by Ray Jobs.

Until the cluster's packages have been looked at, nothing but the standard library may be imported.
"""

import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from sweeps.remote.shipped import link_inputs

_WRONG_REQUEST = 2


def unmet() -> Iterator[str]:
    """What this version of the code needs and the cluster does not have."""
    from packaging.requirements import Requirement  # Ray needs it, too

    for line in requires("robust-sweeps") or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            yield f"{needed.name}{needed.specifier} is missing"
            continue
        if not needed.specifier.contains(found, prereleases=True):
            yield f"{needed.name}{needed.specifier} is wanted, it has {found}"


def main() -> None:
    """Exits with 2 where the cluster's Python cannot run this."""
    missing = list(unmet())
    if missing:
        sys.stderr.write(
            f"The cluster's Python {sys.version.split()[0]} cannot run robust-sweeps {version('robust-sweeps')}: "
            f"{'; '.join(missing)}. Its image must have what requirements.lock says.\n"
        )
        sys.exit(_WRONG_REQUEST)
    job = Path.cwd()
    link_inputs(job)
    durable = Path.home() / ".cache" / "robust-sweeps" / "jobs"
    durable.mkdir(parents=True, exist_ok=True)
    os.chdir(durable)  # Ray deletes the job's folder when it is over

    from sweeps.remote.carry_out import carry_out

    carry_out(job)


if __name__ == "__main__":
    main()
