"""Loads a tenant's packages into a process that has not run anything yet.

Lives in the snapshot as the module `_packages`, and takes itself out once it has done its work. By
then the bridge to JavaScript is closed and the files are sealed, so a package meets what a listener
meets. What is imported here is part of the memory that every run begins with.
"""

import gc
import importlib
import json
import sys


def load(text):
    """Import the modules that a list in JSON names; gives those that could not be, and why."""
    del sys.modules[__name__]
    names = json.loads(text)
    if not names:
        return "{}"
    importlib.invalidate_caches()
    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed[name] = _explain(error)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()
    return json.dumps(failed)


def _explain(error):
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__
