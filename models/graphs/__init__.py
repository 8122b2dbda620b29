"""The networks as OpenVINO graphs, built from their weights without PyTorch."""
