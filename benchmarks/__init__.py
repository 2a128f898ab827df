"""Programs that measure; each writes its result with the machine and the commit that made it."""
