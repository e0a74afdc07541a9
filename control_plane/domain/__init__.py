"""Pure rules: entities, state tables, limits and the protocol's decisions. No I/O, no clock, no asyncio."""
