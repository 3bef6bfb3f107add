"""A bucket on this machine: a server that speaks Google Cloud Storage's language, in memory."""

import contextlib
import os
import socket
from collections.abc import Iterator
from http.server import HTTPServer
from unittest import mock

NAME = "bucket"


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """The server; every library of this process and of those that it starts goes to it. Gives gs://bucket."""
    from gcp_storage_emulator.server import Response, create_server
    from gcp_storage_emulator.storage import Storage
    from gcsfs.extended_gcsfs import BucketType, ExtendedGcsFileSystem

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}"
    # epath's and Orbax's libraries, TensorStore and array_record each have a variable of their own.
    names = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL", "CLOUD_STORAGE_EMULATOR_ENDPOINT")
    variables = dict.fromkeys(names, url) | {"GOOGLE_CLOUD_PROJECT": "none"}
    # Which kind of bucket it is cannot be asked of this server, and is for each file that is touched.
    kind = mock.AsyncMock(return_value=BucketType.NON_HIERARCHICAL)
    find, answer, found = Storage.get_file_obj, Response.write_file, {}

    def remember(*arguments):
        file = find(*arguments)
        found["generation"] = file["generation"]
        return file

    def with_generation(response, *arguments, **options):
        response["x-goog-generation"] = found["generation"]
        answer(response, *arguments, **options)

    with (
        mock.patch.dict(os.environ, variables),
        # Without the header TensorStore cannot write what it has read.
        mock.patch.object(Storage, "get_file_obj", remember),
        mock.patch.object(Response, "write_file", with_generation),
        mock.patch.object(ExtendedGcsFileSystem, "_get_bucket_type", kind),
        # The server has one thread, and array_record asks with 64.
        mock.patch.object(HTTPServer, "request_queue_size", 128),
        # It would print a traceback for each reader that has seen enough of a file.
        mock.patch.object(HTTPServer, "handle_error"),
        create_server("localhost", port, True, default_bucket=NAME),
    ):
        yield f"gs://{NAME}"
