"""The only room of the agent that knows gRPC: dial, enrol, one stream's life, and conversion at the door."""
