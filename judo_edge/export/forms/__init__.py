"""The stored forms of a tensor, made a few rows at a time, and which form a tensor takes.

A form says which parts of a file it fills and then yields pieces for them, so that none ever holds a whole large
tensor. Knows no files.
"""

from judo_edge.export.forms.base import Part, Piece, StoredForm
from judo_edge.export.forms.choice import Choice, choose
from judo_edge.export.forms.decision import all_decisions, decision_of
from judo_edge.export.forms.floating import FloatForm, PrefixForm, TableForm
from judo_edge.export.forms.linear import quantized_form
from judo_edge.export.forms.quantized import DequantizedForm, NBitsForm, QuantizedForm

__all__ = [
    "Choice",
    "DequantizedForm",
    "FloatForm",
    "NBitsForm",
    "Part",
    "Piece",
    "PrefixForm",
    "QuantizedForm",
    "StoredForm",
    "TableForm",
    "all_decisions",
    "choose",
    "decision_of",
    "quantized_form",
]
