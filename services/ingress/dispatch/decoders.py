"""The decoders: embeddings in; tags, captions and scene changes out."""

from services.ingress.admission import Deadline, Demand
from services.ingress.dispatch import answers, retry
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Replicas
from videoanalysis import call_log
from videoanalysis.errors import FailedPrecondition, NotFound, Unavailable
from videoanalysis.v1.decoder_pb2 import (
    DecodeChunkRequest,
    DecodeChunkResponse,
    ListTextBanksRequest,
    ListTextBanksResponse,
    RankTextsRequest,
    RankTextsResponse,
    RankVideoRequest,
    RankVideoResponse,
    TextBankInfo,
)
from videoanalysis.v1.decoder_pb2_grpc import DecoderServiceStub
from videoanalysis.v1.error_reason_pb2 import ErrorReason


class Decoders:
    """Every answer has been checked for form."""

    def __init__(self, replicas: Replicas, demand: Demand) -> None:
        self._replicas = replicas
        self._demand = demand
        self._decode_time = LatencyEstimator(replicas.attempt_seconds)
        self._rank_time = LatencyEstimator(replicas.attempt_seconds)
        self._list_time = LatencyEstimator(replicas.attempt_seconds)

    async def decode(self, request: DecodeChunkRequest, deadline: Deadline) -> DecodeChunkResponse:
        async def attempt(replica: Replica, seconds: float) -> DecodeChunkResponse:
            answer: DecodeChunkResponse = answers.received(
                await _stub(replica).DecodeChunk(request, timeout=seconds, metadata=call_log.passed_on())
            )
            answers.check_decoded(answer, request)
            return answer

        with self._demand.decoder_call():
            return await retry.call(
                self._replicas,
                attempt,
                deadline,
                needs=request.ranking.text_bank_digest,
                service_time=self._decode_time,
            )

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse:
        async def attempt(replica: Replica, seconds: float) -> RankTextsResponse:
            answer: RankTextsResponse = answers.received(
                await _stub(replica).RankTexts(request, timeout=seconds, metadata=call_log.passed_on())
            )
            answers.check_ranked(answer, request)
            return answer

        with self._demand.decoder_call():
            return await retry.call(
                self._replicas,
                attempt,
                deadline,
                needs=request.ranking.text_bank_digest,
                service_time=self._rank_time,
            )

    async def rank_video(self, request: RankVideoRequest, deadline: Deadline) -> RankVideoResponse:
        async def attempt(replica: Replica, seconds: float) -> RankVideoResponse:
            answer: RankVideoResponse = answers.received(
                await _stub(replica).RankVideo(request, timeout=seconds, metadata=call_log.passed_on())
            )
            answers.check_video_ranked(answer, request)
            return answer

        with self._demand.decoder_call():
            return await retry.call(
                self._replicas,
                attempt,
                deadline,
                needs=request.ranking.text_bank_digest,
                service_time=self._rank_time,
            )

    async def text_banks(self, deadline: Deadline) -> list[TextBankInfo]:
        """Those that are loaded."""

        async def attempt(replica: Replica, seconds: float) -> list[TextBankInfo]:
            return list((await _loaded(replica, seconds)).text_banks)

        with self._demand.decoder_call():
            return await retry.call(self._replicas, attempt, deadline, service_time=self._list_time)

    async def text_bank(
        self, name: str, model_digest: str, deadline: Deadline, *, labels_suffice: bool = False
    ) -> TextBankInfo:
        """The bank `name` for the model; requested before anything is encoded, so that no GPU time is wasted.

        With `labels_suffice`, an empty message if the decoders are to have no bank. Raises Unavailable
        (BANK_NOT_READY), NotFound (TEXT_BANK_NOT_FOUND) or FailedPrecondition (BANK_MODEL_MISMATCH).
        """

        async def attempt(replica: Replica, seconds: float) -> TextBankInfo:
            loaded = await _loaded(replica, seconds)
            if labels_suffice and not loaded.has_location:
                return TextBankInfo()
            return _choose(loaded, name, model_digest)

        with self._demand.decoder_call():
            return await retry.call(self._replicas, attempt, deadline, service_time=self._list_time)


async def _loaded(replica: Replica, seconds: float) -> ListTextBanksResponse:
    call = _stub(replica).ListTextBanks(ListTextBanksRequest(), timeout=seconds, metadata=call_log.passed_on())
    loaded: ListTextBanksResponse = answers.received(await call)
    answers.check_banks(loaded)
    return loaded


def _choose(loaded: ListTextBanksResponse, name: str, model_digest: str) -> TextBankInfo:
    of_model = {bank.model_digest: bank for bank in loaded.text_banks if bank.name == name}
    if model_digest in of_model:
        return of_model[model_digest]
    if of_model:
        raise FailedPrecondition(
            f"text_bank: {name!r} was built for {', '.join(of_model)}, the encoders serve {model_digest}; build it "
            "again through them",
            reason=ErrorReason.BANK_MODEL_MISMATCH,
            field="text_bank",
        )
    names = ", ".join(sorted({bank.name for bank in loaded.text_banks})) or "none"
    if name in loaded.expected_names or not loaded.is_complete:
        raise Unavailable(
            f"text_bank: no bank {name!r} is loaded yet; loaded: {names}",
            reason=ErrorReason.BANK_NOT_READY,
            field="text_bank",
        )
    raise NotFound(
        f"text_bank: there is no bank {name!r}; loaded: {names}",
        reason=ErrorReason.TEXT_BANK_NOT_FOUND,
        field="text_bank",
    )


def _stub(replica: Replica) -> DecoderServiceStub:
    return DecoderServiceStub(replica.channel)  # type: ignore[no-untyped-call]
