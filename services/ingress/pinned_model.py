"""Pins each video to one model and one text bank, from its first chunk to its last."""

from dataclasses import dataclass

from services.ingress.admission import Deadline, Demand
from services.ingress.dispatch import Decoders, Encoders, LabelEmbeddings, NoLongerServed
from services.ingress.job import AnalysisRequest
from services.ingress.resume import ResumeState, stale_token
from videoanalysis import tensors
from videoanalysis.errors import FailedPrecondition, ServiceError, Unavailable
from videoanalysis.v1.decoder_pb2 import LabelSet, RankingSpec, TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_BANK_MISSING = {ErrorReason.BANK_NOT_READY, ErrorReason.BANK_MODEL_MISMATCH}


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """The model and texts that every chunk of a video uses. `text_bank` is empty if the decoders have no location."""

    model: ModelInfo
    text_bank: TextBankInfo
    ranking: RankingSpec


class ModelPinning:
    """Chooses the model and text bank of each video."""

    def __init__(self, encoders: Encoders, decoders: Decoders, demand: Demand) -> None:
        self._encoders = encoders
        self._decoders = decoders
        self._labels = LabelEmbeddings(encoders, demand)

    async def pin(self, request: AnalysisRequest, deadline: Deadline) -> PinnedModel:
        """A model that is served now, preferably one with the text bank: a new model may not have it yet."""
        without_bank: dict[str, ServiceError] = {}
        while True:
            try:
                model = await self._encoders.model(deadline, without_bank)
            except NoLongerServed:
                if not without_bank:
                    raise
                raise next(reversed(without_bank.values())) from None
            try:
                return await self._pin_to(model, request, deadline)
            except (Unavailable, FailedPrecondition) as error:
                if error.reason not in _BANK_MISSING:
                    raise
                without_bank[model.digest] = error

    async def pin_again(self, request: AnalysisRequest, deadline: Deadline, state: ResumeState) -> PinnedModel:
        """The model and text bank of `state`; raises FailedPrecondition if they are no longer served."""
        try:
            model = await self._encoders.model_again(state.model_digest, deadline)
        except NoLongerServed as error:
            raise stale_token(ErrorReason.MODEL_CHANGED, "no encoder serves its model any more") from error
        try:
            pinned = await self._pin_to(model, request, deadline)
        except FailedPrecondition as error:
            if error.reason not in _BANK_MISSING:
                raise
            raise stale_token(
                ErrorReason.TEXT_BANK_CHANGED, "the text bank of its model is no longer loaded"
            ) from error
        if pinned.text_bank.digest != state.text_bank_digest:
            raise stale_token(ErrorReason.TEXT_BANK_CHANGED, "the text bank has been replaced since")
        return pinned

    async def pin_stored(self, request: AnalysisRequest, model: ModelInfo, deadline: Deadline) -> PinnedModel:
        """For stored embeddings of `model`, which needs to be served only for labels that are not embedded yet."""
        try:
            return await self._pin_to(model, request, deadline)
        except NoLongerServed as error:
            raise FailedPrecondition(
                "labels: no encoder serves the model of the embeddings any more",
                reason=ErrorReason.MODEL_CHANGED,
                field="labels",
            ) from error

    async def _pin_to(self, model: ModelInfo, request: AnalysisRequest, deadline: Deadline) -> PinnedModel:
        ranking = RankingSpec(
            text_bank=request.text_bank,
            model_digest=model.digest,
            top_k_tags=request.top_k_tags,
            min_probability=request.min_probability,
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
        )
        if request.labels:
            embeddings = await self._labels.of(request.labels, model, deadline)
            ranking.labels.CopyFrom(LabelSet(texts=request.labels, embeddings=tensors.to_proto(embeddings)))
        text_bank = await self._decoders.text_bank(
            request.text_bank, model.digest, deadline, labels_suffice=bool(request.labels)
        )
        ranking.text_bank_digest = text_bank.digest
        return PinnedModel(model, text_bank, ranking)
