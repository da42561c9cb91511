"""The engines: eager PyTorch, torch.compile and OpenVINO, behind `exactile.engine.Engine`."""
