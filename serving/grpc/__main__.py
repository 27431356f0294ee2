"""Triton's protocol over gRPC: `python -m serving.grpc [--listen 127.0.0.1:8001] [--service http://127.0.0.1:8000]`.

Serves `inference.GRPCInferenceService` of the Open Inference Protocol, version 2, to clients of KServe, Triton and
OpenVINO Model Server. Needs the service by HTTP alone, and the service knows nothing of it: while that is away, calls
are UNAVAILABLE, and the bridge goes on.
"""

import argparse
import sys

from inpformer.errors import UserError
from serving.grpc.settings import Bridge


def main() -> None:
    """Runs until Ctrl-C or SIGTERM: what is under way is answered first."""
    try:
        bridge = _arguments()
        # Imported only now, as --help does not need it.
        from serving.grpc.server import run

        run(bridge)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # before it listens
        pass
    print("stopped", file=sys.stderr)


def _arguments() -> Bridge:
    parser = argparse.ArgumentParser(
        "python -m serving.grpc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", default="127.0.0.1:8001", help="HOST:PORT (default: %(default)s)")
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument(
        "--max-upload-mb", type=float, default=16, help="the service's own largest upload (default: %(default)g)"
    )
    parser.add_argument("--certificate", help="PEM file, for TLS: the certificate and those that it stands on")
    parser.add_argument("--private-key", help="PEM file: the certificate's key, without a password")
    given = parser.parse_args()
    return Bridge(given.listen, given.service.rstrip("/"), given.max_upload_mb, given.certificate, given.private_key)


if __name__ == "__main__":
    main()
