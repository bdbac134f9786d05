"""The float32 graph, however it is made: built from the weights, traced, or given."""
