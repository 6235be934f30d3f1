"""Lutloom: a trained small neural network in; verified Verilog, ROM images, a bitstream and an honest report out.

What the command line does is here too: ``lutloom.build``, ``verilog``, ``check``, ``quantize``, ``evaluate``,
``search``, ``simulate`` and ``Network``. They are loaded at their first use, so ``import lutloom`` costs nothing.
"""

import importlib
import sys
import types

__version__ = "0.1.0"

_FUNCTIONS = {
    "build": "lutloom.build",
    "verilog": "lutloom.build",
    "check": "lutloom.check",
    "quantize": "lutloom.quantize",
    "evaluate": "lutloom.evaluate",
    "search": "lutloom.search",
    "simulate": "lutloom.simulate",
    "load_graph": "lutloom.frontend",
    "Network": "lutloom.network",
    "LutloomError": "lutloom.errors",
}

__all__ = [*_FUNCTIONS, "__version__"]


class _Package(types.ModuleType):
    """The package, with its functions found when they are asked for.

    A function and the module that defines it share a name (``lutloom.build``). The import system sets the module as
    the package's attribute; the function is put there instead, so ``lutloom.build(...)`` works whatever was imported
    before. ``from lutloom.build import ...`` is not touched by this.
    """

    def __getattr__(self, name):
        if name not in _FUNCTIONS:
            raise AttributeError(f"module 'lutloom' has no attribute {name!r}")
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)

    def __setattr__(self, name, value):
        if isinstance(value, types.ModuleType) and _FUNCTIONS.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self):
        return sorted({*super().__dir__(), *_FUNCTIONS})


sys.modules[__name__].__class__ = _Package
