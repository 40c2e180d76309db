"""Functions that users name as `module:function`: a trainer, a correction of rejected events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

_LOG = logging.getLogger(__name__)


class NamedFunctionError(Exception):
    """There is no such function. The message names it and the remedy."""


def load_function(name: str, what: str) -> Callable[..., Any]:
    """Import the function called `module:function`; `what` it is begins the message of an error.

    Raises NamedFunctionError.
    """
    module_name, separator, function_name = name.partition(":")
    if not (module_name and separator and function_name):
        raise NamedFunctionError(f"{what} {name!r} is not module:function")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise NamedFunctionError(
            f"{what} {name!r}: there is no module {error.name!r}; install it, or put its folder "
            "on PYTHONPATH"
        ) from error
    except Exception as error:
        _LOG.exception("importing %s %s failed", what, name)
        raise NamedFunctionError(
            f"{what} {name!r}: importing {module_name} failed: {error!r}"
        ) from error
    found = getattr(module, function_name, None)
    if found is None:
        raise NamedFunctionError(f"{what} {name!r}: module {module_name} has no {function_name!r}")
    if not callable(found):
        raise NamedFunctionError(
            f"{what} {name!r}: {function_name!r} is a {type(found).__name__}, not a function"
        )
    function: Callable[..., Any] = found
    return function
