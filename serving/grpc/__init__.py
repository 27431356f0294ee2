"""The gRPC form of the Open Inference Protocol, a bridge before the HTTP service: `python -m serving.grpc`."""
