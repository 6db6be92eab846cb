"""The meaning of scores, and the constants about them that decoder, ingress and callers share."""

import math
from dataclasses import dataclass

# Every ranking of a scene has the probabilities of this many texts, regardless of top_k_tags. The ingress adds them up
# over the video; the sums of as many texts fit into a resume token.
LEADING_TAGS, LEADING_CAPTIONS = 64, 40

# Minimum time between two scene changes: one cut, or a burst of flashes, is one scene change.
REFRACTORY_SECONDS = 1.0

DEFAULT_SCENE_THRESHOLD = 0.15
DEFAULT_EMA_ALPHA = 0.9


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scale and bias of the model that made the embeddings, from the sigmoid loss of SigLIP (Zhai et al., 2023)."""

    logit_scale: float
    logit_bias: float

    def probability(self, score: float) -> float:
        """sigmoid(logit_scale · score + logit_bias), 0 to 1, for the cosine `score` of a picture and a text."""
        logit = self.logit_scale * score + self.logit_bias
        # exp of a negative number only: it cannot overflow.
        decay = math.exp(-abs(logit))
        return 1 / (1 + decay) if logit >= 0 else decay / (1 + decay)
