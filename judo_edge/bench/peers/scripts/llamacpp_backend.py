"""llama.cpp's server, in this process by xllamacpp, behind the worker.

Options: `prompt_cache`, and `ngram_drafts`: guesses from all that it has written so far. The model is a folder with
`model.gguf` and `mmproj.gguf`. Asked over its own loopback address: only there a reply's ids are given.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

CONTEXT_TOKENS = 4096
TIMEOUT_SECONDS = 3600
DRAFT_MATCH, MAX_DRAFT = 4, 48
"""Tokens that an earlier place must share, and the most that are guessed from it; its own 24 suit long documents."""
_PHOTO = re.compile(r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>")


class Backend:
    """A server that is ready."""

    def __init__(self, model: str, options: dict[str, Any], threads: int) -> None:
        """Load both files and read the marker that stands for a photo, which the server draws at random."""
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.mmproj.path = (str(Path(model) / name) for name in ("model.gguf", "mmproj.gguf"))
        params.n_ctx, params.n_parallel = CONTEXT_TOKENS, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        if options["ngram_drafts"]:
            params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_MOD]
            ngram = params.speculative.ngram_mod
            ngram.n_match, ngram.n_min, ngram.n_max = DRAFT_MATCH, 1, MAX_DRAFT
        self._options = options
        self._server = xllamacpp.Server(params)
        self._marker = self._called("/props", None)["media_marker"]

    def photo_from_pixels(self, pixels: Any) -> str:
        """Return a photo of (H, W, 3) uint8 as the server takes it: an uncompressed picture in base64."""
        height, width, _ = pixels.shape
        return base64.b64encode(b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()).decode()

    def ask(self, request: dict[str, Any], photos: list[str]) -> dict[str, Any]:
        """Write one reply; the server itself stops at the end token, which is among the ids."""
        prompt = {"prompt_string": _PHOTO.sub(self._marker, request["prompt"]), "multimodal_data": photos}
        body = {
            "prompt": prompt,
            "n_predict": request["max_new_tokens"],
            "temperature": 0,
            "return_tokens": True,
            "cache_prompt": self._options["prompt_cache"],
        }
        reply = self._called("/completion", body)
        times = reply["timings"]
        reused = f"{times['cache_n']} of {times['cache_n'] + times['prompt_n']} prompt tokens"
        if times.get("draft_n"):
            reused += f", {times['draft_n_accepted']} of {times['draft_n']} drafted"
        first = times["prompt_ms"] / 1e3
        return {"ids": reply["tokens"], "text": reply["content"], "first_seconds": first, "reused": reused}

    def _called(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        call = urllib.request.Request(self._server.listening_address + path, data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback must not go to a proxy
        try:
            with opener.open(call, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"llama.cpp refuses the request: {error.read().decode(errors='replace')}") from error
