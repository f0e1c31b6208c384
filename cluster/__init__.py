"""How a stage runs on Ray, and how a cluster is started or joined. The only folder that imports ray."""
