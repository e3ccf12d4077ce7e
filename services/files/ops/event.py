"""What subscribers are told about a file."""

from libs.names import FILE
from services.files.domain.file import File


def facts(file: File) -> dict[str, str | int]:
    """The data of file.created, file.updated and file.deleted; name is the resource name, size_bytes a number."""
    return {
        "name": FILE.format(organization=file.organization_id, user=file.user_id, file=file.id),
        "path": file.path,
        "generation": file.generation,
        "size_bytes": file.size_bytes,
        "content_type": file.content_type,
        "etag": file.etag,
    }
