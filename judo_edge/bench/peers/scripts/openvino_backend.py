"""OpenVINO GenAI's VLMPipeline behind the worker: exported folder, one prompt with two photos, greedy.

Options: `prefix_caching` and `prompt_lookup` (bool), `precision` ("f32" to compute exactly, "" for its own choice).
"""

from __future__ import annotations

import re
import time
from typing import Any

NUM_ASSISTANT_TOKENS, MAX_NGRAM_SIZE = 10, 3
"""Of prompt lookup: tokens guessed at a time, and the longest run of tokens that is looked up."""
CACHE_GIB = 2
_PHOTO = re.compile(r"(?:<\|image_pad\|>)+")


class Backend:
    """A pipeline that is ready."""

    def __init__(self, model: str, options: dict[str, Any], threads: int) -> None:
        """Compile the models for the CPU."""
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = options["prefix_caching"]
        scheduler.cache_size = CACHE_GIB
        properties: dict[str, Any] = {"scheduler_config": scheduler, "INFERENCE_NUM_THREADS": threads}
        if options["precision"]:
            properties |= {"INFERENCE_PRECISION_HINT": options["precision"], "KV_CACHE_PRECISION": options["precision"]}
        if options["prompt_lookup"]:
            properties["prompt_lookup"] = True
        self._genai, self._options = openvino_genai, options
        self._pipeline = openvino_genai.VLMPipeline(model, "CPU", **properties)

    def photo_from_pixels(self, pixels: Any) -> Any:
        """Return the tensor that the pipeline takes, of (H, W, 3) uint8."""
        import openvino

        return openvino.Tensor(pixels[None])

    def ask(self, request: dict[str, Any], photos: list[Any]) -> dict[str, Any]:
        """Write one reply; the ids come through a streamer, the end token included."""
        ids: list[int] = []
        first: list[float] = []
        started = time.perf_counter()
        streamer = _streamer(self._genai, ids, first, started)
        result = self._pipeline.generate(
            _PHOTO.sub("<|image_pad|>", request["prompt"]),
            images=photos,
            generation_config=self._config(request),
            streamer=streamer,
        )
        raw = result.perf_metrics.vlm_raw_metrics
        vision = [micro / 1e6 for micro in raw.prepare_embeddings_durations]  # the tower's blocks run in there too
        reused = f"prefix caching {'on' if self._options['prefix_caching'] else 'off'}"
        times = {"first_seconds": first[0], "vision_seconds": sum(vision)}
        return {"ids": ids, "text": result.texts[0], "reused": reused, **times}

    def _config(self, request: dict[str, Any]) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = request["max_new_tokens"]
        config.do_sample = False
        config.apply_chat_template = False
        config.stop_token_ids = set(request["end_ids"])
        if self._options["prompt_lookup"]:
            config.num_assistant_tokens, config.max_ngram_size = NUM_ASSISTANT_TOKENS, MAX_NGRAM_SIZE
        return config


def _streamer(genai: Any, ids: list[int], first: list[float], started: float) -> Any:
    """Return a streamer that collects the ids and when the first came."""

    class Collector(genai.StreamerBase):  # type: ignore[misc]
        def write(self, token: Any) -> Any:
            if not first:
                first.append(time.perf_counter() - started)
            ids.extend([token] if isinstance(token, int) else token)
            return genai.StreamingStatus.RUNNING

        def end(self) -> None:
            pass

    return Collector()
