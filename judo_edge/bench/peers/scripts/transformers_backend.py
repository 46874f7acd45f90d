"""transformers' own generate behind the worker: image processor, model, greedy. Option: `dtype`.

It reuses nothing from one frame to the next.
"""

from __future__ import annotations

import time
from typing import Any


class Backend:
    """A model that is ready."""

    def __init__(self, model: str, options: dict[str, Any], threads: int) -> None:
        """Load the weights in `dtype` and the image processor."""
        import torch
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        torch.set_num_threads(threads)
        dtype = getattr(torch, options["dtype"])
        self._torch = torch
        self._model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model, dtype=dtype).eval()
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(model)
        self._photo_token = Qwen2_5_VLConfig.from_pretrained(model).image_token_id

    def photo_from_pixels(self, pixels: Any) -> Any:
        """Return a photo as it is, (H, W, 3) uint8."""
        return pixels

    def ask(self, request: dict[str, Any], photos: list[Any]) -> dict[str, Any]:
        """Write one reply, the end token included."""
        streamer = _FirstToken()
        pixels = self._processor(images=photos, return_tensors="pt")
        ids = self._torch.tensor([request["prompt_ids"]])
        with self._torch.no_grad():
            written = self._model.generate(
                input_ids=ids,
                attention_mask=self._torch.ones_like(ids),
                mm_token_type_ids=(ids == self._photo_token).int(),
                pixel_values=pixels["pixel_values"],
                image_grid_thw=pixels["image_grid_thw"],
                do_sample=False,
                max_new_tokens=request["max_new_tokens"],
                eos_token_id=request["end_ids"],
                pad_token_id=request["end_ids"][0],
                streamer=streamer,
            )
        reply = [int(token) for token in written[0, ids.shape[1] :]]
        return {"ids": reply, "text": "", "first_seconds": streamer.seconds, "reused": "nothing"}


class _FirstToken:
    """Notes when the first token came; `generate` hands it the prompt before."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._calls = 0
        self.seconds = 0.0

    def put(self, _: Any) -> None:
        self._calls += 1
        if self._calls == 2:
            self.seconds = time.perf_counter() - self._started

    def end(self) -> None:
        pass
