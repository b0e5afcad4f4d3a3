"""How a structure stands in two maps: in both, in neither, missed by the second, or in that alone."""

BOTH, NEITHER, MISSED, FALSE_ALARM = "both", "neither", "missed", "false alarm"
STATES = (BOTH, NEITHER, MISSED, FALSE_ALARM)
