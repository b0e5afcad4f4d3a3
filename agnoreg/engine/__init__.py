"""The engine: how one evaluation of a measure runs, on slabs or on planes that stream by. It knows no measure."""
