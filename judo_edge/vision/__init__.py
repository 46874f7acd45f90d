"""From photos to what the model takes, and from cells back to pixels.

Knows pixels, patches, the cell grid and M-RoPE positions. Needs numpy, Pillow and OpenCV only; knows no model and no
text.
"""
