"""The verbs: shard, train, evaluate, collate. Plain functions from typed inputs to files."""
