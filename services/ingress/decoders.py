"""The decoders: embeddings in; tags, captions and scene changes out."""

from services.ingress.deadline import Deadline
from services.ingress.replicas import Replica, Replicas
from videoanalysis.errors import FailedPrecondition, Unavailable
from videoanalysis.v1.decoder_pb2 import (
    DecodeChunkRequest,
    DecodeChunkResponse,
    ListTextBanksRequest,
    RankTextsRequest,
    RankTextsResponse,
    TextBankInfo,
)
from videoanalysis.v1.decoder_pb2_grpc import DecoderServiceStub


class Decoders:
    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def decode(self, request: DecodeChunkRequest, deadline: Deadline) -> DecodeChunkResponse:
        async def attempt(replica: Replica, timeout: float) -> DecodeChunkResponse:
            return await DecoderServiceStub(replica.channel).DecodeChunk(request, timeout=timeout)

        return await self._replicas.call(attempt, deadline)

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse:
        async def attempt(replica: Replica, timeout: float) -> RankTextsResponse:
            return await DecoderServiceStub(replica.channel).RankTexts(request, timeout=timeout)

        return await self._replicas.call(attempt, deadline)

    async def text_bank(self, name: str, model_digest: str, deadline: Deadline) -> TextBankInfo:
        """The bank `name` for the model; asked before anything is encoded, so that no GPU works for nothing.

        Raises Unavailable (BANK_NOT_READY) or FailedPrecondition (BANK_MODEL_MISMATCH).
        """

        async def attempt(replica: Replica, timeout: float) -> TextBankInfo:
            stub = DecoderServiceStub(replica.channel)
            loaded = (await stub.ListTextBanks(ListTextBanksRequest(), timeout=timeout)).text_banks
            named = [bank for bank in loaded if bank.name == name]
            for bank in named:
                if bank.model_digest == model_digest:
                    return bank
            if named:
                raise FailedPrecondition(
                    f"text_bank: {name!r} was built for {named[0].model_digest}, the encoder serves {model_digest}; "
                    "build it again through this encoder",
                    reason="BANK_MODEL_MISMATCH",
                    field="text_bank",
                )
            raise Unavailable(
                f"text_bank: no bank {name!r} is loaded yet; loaded: {sorted({bank.name for bank in loaded})}",
                reason="BANK_NOT_READY",
                field="text_bank",
            )

        return await self._replicas.call(attempt, deadline)
