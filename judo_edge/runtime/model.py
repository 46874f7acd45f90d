"""A bundle made ready to be asked: what every question about every frame shares. Knows no question and no reference."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.bundle.acceptance import check_accepted
from judo_edge.core import Floats, Image
from judo_edge.errors import BundleError
from judo_edge.protocol.profile import PromptProfile, load_profile, prompt_text
from judo_edge.protocol.questions import Question
from judo_edge.runtime.decoder import Decoder
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.prompt import Prompt, embed_from_table
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import patches_from_image


class Model:
    """Tokenizer, profile, preprocessing and embedding table of a bundle, over an engine. One prompt at a time."""

    def __init__(self, bundle: Bundle, engine: Engine, accept_failed: Collection[str] = ()) -> None:
        """Read the small files; the engine must be entered before anything is encoded or asked.

        Raises BundleError when the bundle's parts do not fit together, or when it failed a gate of its verification
        that `accept_failed` does not name.
        """
        check_accepted(bundle, accept_failed)
        self.bundle, self.engine = bundle, engine
        self.facts = bundle.manifest.model
        self.profile = load_profile(bundle.path_of(bundle.manifest.profile))
        self.preprocessing = preprocessing_from_bundle(bundle, self.profile)
        self.tokenizer = Tokenizer.open(bundle.path_of(bundle.manifest.tokenizer))
        self.end_tokens = frozenset(self.facts.eos_ids)
        self.embed = embed_from_table(bundle.embedding_table())
        self.decoder = Decoder(engine, self.embed)

    @property
    def grid(self) -> tuple[int, int]:
        """Return the rows and columns of masks."""
        return self.profile.grid_rows, self.profile.grid_cols

    def prompt(self, question: Question) -> Prompt:
        """Return the prompt of a question, complete but for the photos."""
        text = prompt_text(self.profile, question, self.preprocessing.num_tokens)
        ids, side = self.tokenizer.ids_from_text(text), self.preprocessing.merged_side
        return Prompt(ids, self.embed, self.facts.image_pad_id, side, self.profile.image_order)

    def patches(self, image: Image) -> Floats:
        """Return the patches of a photo; ImageError when it has another shape or type."""
        return patches_from_image(image, self.preprocessing)

    def embedding(self, patches: Floats) -> Embedding:
        """Return what the vision graph says of a photo's patches, in memory of its own."""
        return self.embeddings([patches])[0]

    def embeddings(self, patches: Sequence[Floats]) -> list[Embedding]:
        """Return the same of several photos, encoded in one call."""
        # The engine may reuse its output, and other photos are encoded before these rows are read.
        rows, features = self.engine.encode(np.stack(patches) if len(patches) > 1 else patches[0][None])
        maps = [None] * len(rows) if features is None else [_own(one) for one in features]
        return [Embedding(_own(one), its) for one, its in zip(rows, maps, strict=True)]


def _own(array: Floats) -> Floats:
    return np.array(array, dtype=np.float32, copy=True)


def preprocessing_from_bundle(bundle: Bundle, profile: PromptProfile) -> Preprocessing:
    """Return how photos become patches: the profile's resize, everything else from the manifest.

    Raises BundleError when profile and graph are made for different photo sizes.
    """
    model, recorded = bundle.manifest.model, bundle.manifest.preprocessing
    if profile.image_size != recorded.image_size:
        found = f"a profile for {profile.image_size} pixels with graphs for {recorded.image_size}"
        raise BundleError(found, "the same photo size", "export the bundle again")
    return Preprocessing(
        resize=profile.resize,
        image_size=recorded.image_size,
        patch_size=model.patch_size,
        temporal_patch_size=model.temporal_patch_size,
        merge_size=model.spatial_merge_size,
        mean=recorded.mean,
        std=recorded.std,
    )
