"""Integers that stand for weights: how they are rounded, how they are laid out, and the graph nodes that read them.

Everything is symmetric. Pure functions of rows (outputs, inputs); knows nothing of checkpoints and files.
"""

from judo_edge.export.quantize.channel import columns_from_codes, rows_from_columns
from judo_edge.export.quantize.compensate import Compensation, compensated_codes, compensation_from_gram
from judo_edge.export.quantize.grid import Grid, codes_from_rows, quantized, rows_from_codes, scales_from_rows
from judo_edge.export.quantize.nbits import (
    blocks_from_codes,
    blocks_from_rows,
    codes_from_blocks,
    rows_from_blocks,
)
from judo_edge.export.quantize.nibbles import codes_from_nibbles, nibbles_from_codes
from judo_edge.export.quantize.nodes import LinearRewriter, part_names
from judo_edge.export.quantize.smooth import Smoothing, smoothing_from_vector

__all__ = [
    "Compensation",
    "Grid",
    "LinearRewriter",
    "Smoothing",
    "blocks_from_codes",
    "blocks_from_rows",
    "codes_from_blocks",
    "codes_from_nibbles",
    "codes_from_rows",
    "columns_from_codes",
    "compensated_codes",
    "compensation_from_gram",
    "nibbles_from_codes",
    "part_names",
    "quantized",
    "rows_from_blocks",
    "rows_from_codes",
    "rows_from_columns",
    "scales_from_rows",
    "smoothing_from_vector",
]
