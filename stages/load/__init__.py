"""From shards to decoded images, in an order that is a function of (seed, epoch) alone."""
