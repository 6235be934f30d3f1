"""Weight formats, how a user asks for them, and how real weights are brought into them.

``WeightFormat`` is what codes mean; ``parse_spec`` reads ``--weights``; ``fit`` chooses scales and patterns.
"""

from lutloom.weight_fit import fit
from lutloom.weight_format import WeightFormat
from lutloom.weight_spec import FormatChoice, Spec, fit_rounding, parse_spec

__all__ = ["FormatChoice", "Spec", "WeightFormat", "fit", "fit_rounding", "parse_spec"]
