"""What scores mean, and the limits on them that the decoder, the ingress and the callers share."""

import math
from dataclasses import dataclass

# Every DecodeChunkResponse carries this many of the chunk's highest scores, whatever top_k_tags asks for. From them the
# ingress finds the best chunk of each text of the whole video.
LEADING_TAGS, LEADING_CAPTIONS = 112, 48

# Minimum time between two scene changes: one cut, or a burst of flashes, is one scene change.
REFRACTORY_SECONDS = 1.0

DEFAULT_SCENE_THRESHOLD = 0.15


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scale and bias of the model that made the embeddings."""

    logit_scale: float
    logit_bias: float

    def probability(self, score: float) -> float:
        """sigmoid(logit_scale · score + logit_bias)"""
        logit = self.logit_scale * score + self.logit_bias
        # exp of a negative number only: it cannot overflow.
        decay = math.exp(-abs(logit))
        return 1 / (1 + decay) if logit >= 0 else decay / (1 + decay)
