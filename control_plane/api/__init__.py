"""The doors: everything that knows gRPC and the generated protos."""
