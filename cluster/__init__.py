"""How a stage runs on Ray, and how one gets a cluster. The only folder that imports ray."""
