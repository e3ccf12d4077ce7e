"""holdfast.backup.v1.EvidenceService."""

from collections.abc import AsyncIterator

from holdfast.backup.v1 import evidence_service_pb2 as pb
from holdfast.backup.v1 import evidence_service_pb2_grpc as grpc_pb
from libs.rpc.server import Context, principal
from services.backup.domain.evidence import Other
from services.backup.ops.evidence_reader import EvidenceReader
from services.backup.rpc.messages import timestamp


class EvidenceServicer(grpc_pb.EvidenceServiceServicer):
    """Evidence, for operators."""

    def __init__(self, reader: EvidenceReader) -> None:
        self._reader = reader

    async def GetEvidenceStatus(
        self, request: pb.GetEvidenceStatusRequest, context: Context
    ) -> pb.GetEvidenceStatusResponse:
        """The state of the chain."""
        found = await self._reader.status()
        return pb.GetEvidenceStatusResponse(
            chain=found.chain,
            count=found.count,
            head=found.head,
            mirrors=[pb.EvidenceMirror(mirror=one.name, count=one.count, fault=one.fault) for one in found.mirrors],
            public_keys=found.public_keys,
            warnings=found.warnings,
            older_chains=[_older(one) for one in found.others],
            older_chains_fault=found.others_fault,
        )

    async def ExportEvidence(
        self, request: pb.ExportEvidenceRequest, context: Context
    ) -> AsyncIterator[pb.ExportEvidenceResponse]:
        """The whole chain, and its trailer."""
        who, internal = principal(context), not request.without_internal
        async for piece in self._reader.export(who, internal=internal, chain=request.chain):
            yield pb.ExportEvidenceResponse(lines=piece)


def _older(one: Other) -> pb.EvidenceChain:
    return pb.EvidenceChain(
        chain=one.chain, count=one.count, begin_time=timestamp(one.begun_at), end_time=timestamp(one.ended_at)
    )
